// Deciding for a lead that does not exist: leadroute._explain(), on which explain() stands. All of
// it happens on copies: no turn is taken, nothing is counted, alerted or written.
#include "decide.h"
#include "lead_row.h"
#include "placement.h"

enum Column {
    E_KIND,
    E_RULE,
    E_POOL,
    E_REP,
    E_OUTCOME,
    E_MEASURE,
    E_AMOUNT,
    E_USED,
    E_CAP,
    E_TEXT,
    E_BYTES
};
constexpr int kExplainColumns = E_BYTES + 1;

struct Row {
    Datum values[kExplainColumns];
    bool nulls[kExplainColumns];
};

static void row_start(Row* row, const char* kind) {
    memset(row->nulls, true, sizeof(row->nulls));
    row->values[E_KIND] = CStringGetTextDatum(kind);
    row->nulls[E_KIND] = false;
}

static void row_set(Row* row, Column column, Datum value, bool present = true) {
    row->values[column] = value;
    row->nulls[column] = !present;
}

static void row_put(ReturnSetInfo* rows, Row* row) {
    tuplestore_putvalues(rows->setResult, rows->setDesc, row->values, row->nulls);
}

static void put_candidate(void* context, int32 pool, core::Measure measure,
                          const core::Candidate* c) {
    Row row;
    row_start(&row, pool < 0 ? "sticky" : "member");
    row_set(&row, E_POOL, Int32GetDatum(pool), pool > 0);
    row_set(&row, E_REP, Int64GetDatum(c->rep), c->rep != 0);
    row_set(&row, E_OUTCOME, CStringGetTextDatum(core::state_name(c->state)), c->rep != 0);
    bool counted = c->state == core::State::rep_cap || c->state == core::State::member_cap ||
                   c->state == core::State::open_cap;
    bool eligible = c->state == core::State::picked || c->state == core::State::turn;
    row_set(&row, E_MEASURE, CStringGetTextDatum(core::measure_name(measure)),
            eligible && pool > 0);
    row_set(&row, E_AMOUNT, Float8GetDatum(c->measure), eligible && pool > 0);
    row_set(&row, E_USED, Int32GetDatum(c->used), counted);
    row_set(&row, E_CAP, Int32GetDatum(c->cap), counted);
    row_put(static_cast<ReturnSetInfo*>(context), &row);
}

static void put_faults(ReturnSetInfo* rows, const RuleSet* rules) {
    for (const RuleFault* fault = rules_faults(rules); fault != NULL; fault = fault->next) {
        Row row;
        row_start(&row, fault->missed ? "missed" : "fault");
        row_set(&row, E_RULE, Int64GetDatum(fault->rule));
        if (fault->sqlstate != 0)
            row_set(&row, E_OUTCOME, CStringGetTextDatum(unpack_sql_state(fault->sqlstate)));
        row_set(&row, E_TEXT, CStringGetTextDatum(fault->message));
        row_put(rows, &row);
    }
}

static void put_decision(ReturnSetInfo* rows, const Decision* d) {
    Row row;
    row_start(&row, "decision");
    const RecordRow* r = &d->row;
    bytea* bytes = static_cast<bytea*>(palloc(VARHDRSZ + r->explanation_length));
    SET_VARSIZE(bytes, VARHDRSZ + r->explanation_length);
    memcpy(VARDATA(bytes), r->explanation, r->explanation_length);
    row_set(&row, E_RULE, Int64GetDatum(r->rule), d->rule != NULL);
    row_set(&row, E_POOL, Int32GetDatum(r->pool), r->pool != 0);
    row_set(&row, E_REP, Int64GetDatum(r->rep), r->has_rep);
    row_set(&row, E_OUTCOME, CStringGetTextDatum(r->method));
    row_set(&row, E_BYTES, PointerGetDatum(bytes));
    row_put(rows, &row);
}

// Why no known owner was asked.
static void put_sticky(ReturnSetInfo* rows, const Decision* d) {
    const char* outcome = NULL;
    switch (d->sticky) {
    case StickyStep::none:
        outcome = "no contact";
        break;
    case StickyStep::failed:
        outcome = "error";
        break;
    case StickyStep::unknown:
        outcome = "not known";
        break;
    case StickyStep::gone:
        outcome = "gone";
        break;
    default:
        return;
    }
    Row row;
    row_start(&row, "sticky");
    row_set(&row, E_OUTCOME, CStringGetTextDatum(outcome));
    if (d->sticky == StickyStep::failed)
        row_set(&row, E_TEXT, CStringGetTextDatum(d->failures.first_message));
    row_put(rows, &row);
}

// The lead names its owner: nobody is asked.
static void put_given(ReturnSetInfo* rows, const LeadTable* table, int64 tenant, Datum owner) {
    Row row;
    row_start(&row, "decision");
    int64 rep;
    if (rep_from_owner(table, tenant, owner, &rep))
        row_set(&row, E_REP, Int64GetDatum(rep));
    row_set(&row, E_OUTCOME, CStringGetTextDatum("manual"));
    row_put(rows, &row);
}

static void explain(ReturnSetInfo* rows, LeadTable* table, Lead* lead) {
    bool isnull;
    Datum owner = slot_getattr(lead->slot, table->owner_column, &isnull);
    if (!isnull) {
        put_given(rows, table, lead->key.tenant, owner);
        return;
    }
    TenantRules* rules = lead_table_rehearse(table, lead->relation, &lead->key);
    Decision decision;
    decide_rehearse(table, rules, lead, put_candidate, rows, &decision);
    put_sticky(rows, &decision);
    put_faults(rows, rules->rules);
    put_decision(rows, &decision);
    rules_free(rules->rules);
}

extern "C" {
PG_FUNCTION_INFO_V1(leadroute_explain_lead);

// _explain(lead regclass, tenant bigint, row record, given jsonb) -> SETOF (kind, rule, pool, rep,
// outcome, measure, amount, used, cap, message, explanation); kind sticky (the known owner, or why
// none was asked), member, fault (of a rule), missed (by a rule's territory), decision (the last
// one). An explained lead's tenant column is of no account: `tenant` is.
Datum leadroute_explain_lead(PG_FUNCTION_ARGS) {
    shared_require();
    require_level(PG_GETARG_INT64(1), "{app,manager}");
    Jsonb* given = PG_GETARG_JSONB_P(3);
    if (!JB_ROOT_IS_OBJECT(given))
        ereport(ERROR,
                (errcode(ERRCODE_DATATYPE_MISMATCH), errmsg("what is given is not a JSON object"),
                 errdetail("Its keys name the columns that do not have their defaults."),
                 errhint("Give {\"column\": value, ...}, or {} for defaults alone.")));
    Relation relation = relation_open(PG_GETARG_OID(0), AccessShareLock);
    HeapTupleHeader row = PG_GETARG_HEAPTUPLEHEADER(2);
    lead_row_check(relation, row);
    HeapTuple tuple = lead_row_complete(relation, row, given);
    ReturnSetInfo* rows = start_rows(fcinfo);

    Lead lead = {};
    lead.relation = relation;
    lead.slot = MakeSingleTupleTableSlot(RelationGetDescr(relation), &TTSOpsHeapTuple);
    ExecStoreHeapTuple(tuple, lead.slot, false);
    lead.key.database = MyDatabaseId;
    lead.key.tenant = PG_GETARG_INT64(1);
    lead.key.assignment = placement(RelationGetRelid(relation), lead.key.tenant);
    lead.id = "";
    explain(rows, lead_table_of(relation), &lead);
    ExecDropSingleTupleTableSlot(lead.slot);
    relation_close(relation, NoLock);
    return (Datum)0;
}
}
