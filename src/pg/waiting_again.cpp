// A lead that comes back to a queue, where a claim goes by what the record says: its score, and
// what the rule that once gave it out needs of whoever takes it now. The other rules are not looked
// at.
#include "rule_set.h"

#include "attempt.h"
#include "lead.h"
#include "lead_row.h"
#include "waiting.h"

struct LeadNeeds {
    bool known; // the rule is there
    const char* problem;
    Datum needs; // text[] in the caller's memory; 0: none
};

// The rule's place in the set, or -1.
static int find_rule(const RuleSet* set, int64 rule) {
    for (int i = 0; i < set->rule_count; i++)
        if (set->rules[i]->id == rule)
            return i;
    return -1;
}

static const char* problem_of(const RuleSet* set, int place) {
    for (int i = 0; i < set->step_count; i++) {
        const RuleStep* step = &set->steps[i];
        if (step->broken && place >= step->first && place < step->first + step->count)
            return step->message;
    }
    return NULL;
}

static void check_needs(void* argument) {
    Needs needs;
    needs_read(static_cast<ArrayType*>(argument), &needs);
}

static void evaluate(RuleSet* set, RuleDemand* demand, TupleTableSlot* slot, LeadNeeds* found) {
    MemoryContext caller = CurrentMemoryContext;
    Datum value;
    ErrorData* error;
    bool present = rule_expression_alone(set, &demand->need_expression, slot, &value, &error);
    MemoryContextSwitchTo(caller);
    if (error == NULL && present) {
        found->needs = datumCopy(value, false, -1);
        error = attempt_apart(check_needs, DatumGetArrayTypeP(found->needs));
    }
    if (error != NULL) {
        found->needs = 0;
        found->problem = error->message;
    }
}

static void find_needs(RuleSet* set, int64 rule, TupleTableSlot* slot, LeadNeeds* found) {
    *found = {};
    int place = find_rule(set, rule);
    found->known = place >= 0;
    if (!found->known)
        return;
    found->problem = problem_of(set, place);
    RuleDemand* demand = set->rules[place]->demand;
    if (found->problem == NULL && demand != NULL && demand->has_needs)
        evaluate(set, demand, slot, found);
}

static void tell(const LeadTable* table, const Lead* lead, int64 rule, const char* problem) {
    Alert alert = {};
    alert.kind = "rule_error";
    alert.tenant = lead->key.tenant;
    alert.lead_table = table->id;
    alert.lead_id = lead->id;
    alert.rule = rule;
    alert.message = psprintf("what the lead needs cannot be told: %s", problem);
    raise_alert(&alert);
}

static void read_lead(FunctionCallInfo fcinfo, Relation relation, TupleTableSlot* slot,
                      LeadNeeds* needs, RecordRow* row) {
    LeadTable* table = lead_table_of(relation);
    Lead lead;
    if (!lead_read(table, relation, slot, &lead))
        return;
    waiting_score(table, &lead, row);
    if (PG_ARGISNULL(1))
        return;
    TenantRules* rules = lead_table_rules(table, relation, &lead.key, frame_current());
    find_needs(rules->rules, PG_GETARG_INT64(1), slot, needs);
    if (needs->problem != NULL)
        tell(table, &lead, PG_GETARG_INT64(1), needs->problem);
}

extern "C" {
PG_FUNCTION_INFO_V1(leadroute_waiting_values);

// _waiting_values(relation regclass, rule bigint, lead_row record, OUT known boolean, OUT failed
// boolean, OUT needs text[], OUT score double precision)
Datum leadroute_waiting_values(PG_FUNCTION_ARGS) {
    TupleDesc descriptor;
    if (get_call_result_type(fcinfo, NULL, &descriptor) != TYPEFUNC_COMPOSITE)
        elog(ERROR, "return type must be a row type");
    if (PG_ARGISNULL(0) || PG_ARGISNULL(2) || !shared_ready())
        PG_RETURN_NULL();
    LeadNeeds found = {};
    RecordRow row = {};
    Relation relation = relation_open(PG_GETARG_OID(0), AccessShareLock);
    TupleTableSlot* slot = lead_row_slot(relation, PG_GETARG_HEAPTUPLEHEADER(2));
    read_lead(fcinfo, relation, slot, &found, &row);
    ExecDropSingleTupleTableSlot(slot);
    relation_close(relation, NoLock);
    Datum values[] = {BoolGetDatum(found.known), BoolGetDatum(found.problem != NULL), found.needs,
                      Float8GetDatum(row.score)};
    bool nulls[] = {false, false, found.needs == 0, !row.has_score};
    PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(descriptor), values, nulls)));
}
}
