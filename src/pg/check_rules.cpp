// What is wrong with a lead table's rules: leadroute._check_conditions(), on which check_rules()
// stands. The rules are those this transaction sees. What is proved is in rule_proof.cpp, what the
// leads show in check_rules_leads.cpp, what configuration alone shows in sql/check_rules.sql.
#include "check_rules.h"

#include "attempt.h"
#include "rule_analyse.h"
#include "rule_proof.h"

extern "C" {
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "utils/array.h"
}

// From so many rules on, what checking a rule against each lead costs is worth a word.
constexpr int kManyRules = 50;

// --- reading ---

constexpr char kQuery[] =
    "SELECT r.id, r.name, r.condition, r.author,"
    "       pg_catalog.concat_ws(':', CASE WHEN r.pool IS NOT NULL THEN 'pool'"
    "           WHEN r.rep IS NOT NULL THEN 'rep' ELSE 'territory' END, r.pool, r.rep, "
    "           r.territory),"
    "       r.valid IS NOT NULL,"
    "       coalesce(r.valid OPERATOR(pg_catalog.@>) pg_catalog.now(), true)"
    "  FROM leadroute.lead_table t"
    "  JOIN leadroute.rule r ON r.lead_table OPERATOR(pg_catalog.=) t.name"
    " WHERE t.id OPERATOR(pg_catalog.=) $1 AND r.tenant OPERATOR(pg_catalog.=) $2 AND r.active"
    " ORDER BY r.position, r.id";

static bool flag_at(HeapTuple row, int column) {
    bool isnull;
    return DatumGetBool(SPI_getbinval(row, SPI_tuptable->tupdesc, column, &isnull));
}

static void read_rows(RuleCheck* check, MemoryContext memory) {
    MemoryContext caller = MemoryContextSwitchTo(memory);
    check->count = static_cast<int>(SPI_processed);
    check->rules = static_cast<CheckedRule*>(
        MemoryContextAllocHuge(memory, sizeof(CheckedRule) * (SPI_processed + 1)));
    TupleDesc columns = SPI_tuptable->tupdesc;
    for (int i = 0; i < check->count; i++) {
        HeapTuple row = SPI_tuptable->vals[i];
        CheckedRule* rule = &check->rules[i];
        *rule = {};
        bool isnull;
        rule->id = DatumGetInt64(SPI_getbinval(row, columns, 1, &isnull));
        rule->name = SPI_getvalue(row, columns, 2);
        rule->condition = SPI_getvalue(row, columns, 3);
        rule->author = SPI_getvalue(row, columns, 4);
        rule->target = SPI_getvalue(row, columns, 5);
        rule->has_valid = flag_at(row, 6);
        rule->valid_now = flag_at(row, 7);
    }
    MemoryContextSwitchTo(caller);
}

static void read_rules(RuleCheck* check) {
    Oid types[] = {INT4OID, INT8OID};
    Datum values[] = {Int32GetDatum(check->table->id), Int64GetDatum(check->tenant)};
    MemoryContext memory = CurrentMemoryContext;
    OwnerScope scope;
    owner_scope_begin(&scope);
    SPI_connect();
    PushActiveSnapshot(GetLatestSnapshot());
    if (SPI_execute_with_args(kQuery, lengthof(types), types, values, NULL, true, 0) !=
        SPI_OK_SELECT)
        elog(ERROR, "cannot read leadroute.rule");
    read_rows(check, memory);
    PopActiveSnapshot();
    SPI_finish();
    owner_scope_end(&scope);
}

// --- conditions by themselves ---

struct Compilation {
    RuleCheck* check;
    CheckedRule* rule;
};

static void compile_condition(void* argument) {
    const Compilation* compilation = static_cast<const Compilation*>(argument);
    CheckedRule* rule = compilation->rule;
    Condition condition = {};
    condition.lead = compilation->check->lead;
    condition.rule = rule->name;
    condition.text = rule->condition;
    condition.author = get_role_oid(rule->author, false);
    condition_parse(&condition);
    rule_expression_keep(compilation->check->set, &condition, rule->author, &rule->run);
}

static void compile_rules(RuleCheck* check) {
    MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "leadroute rule compiler",
                                                  ALLOCSET_DEFAULT_SIZES);
    MemoryContext caller = MemoryContextSwitchTo(scratch);
    for (int i = 0; i < check->count; i++) {
        CHECK_FOR_INTERRUPTS();
        CheckedRule* rule = &check->rules[i];
        Compilation compilation = {check, rule};
        const ErrorData* error = attempt_apart(compile_condition, &compilation);
        if (error != NULL) {
            rule->run.expression = NULL;
            rule->broken = MemoryContextStrdup(caller, error->message);
        } else {
            rule->never = condition_class(rule->run.expression) == CONDITION_NEVER;
        }
        MemoryContextReset(scratch);
    }
    MemoryContextSwitchTo(caller);
    MemoryContextDelete(scratch);
}

// --- rules as they take part in routing ---

struct IdSlot {
    int64 id;
    int rule;
};

static void number_rules(RuleCheck* check) {
    HASHCTL control = {};
    control.keysize = sizeof(int64);
    control.entrysize = sizeof(IdSlot);
    control.hcxt = CurrentMemoryContext;
    check->ids =
        hash_create("leadroute rules by id", 1024, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
    for (int i = 0; i < check->count; i++)
        static_cast<IdSlot*>(hash_search(check->ids, &check->rules[i].id, HASH_ENTER, NULL))->rule =
            i;
}

int check_rule_number(const RuleCheck* check, int64 id) {
    const IdSlot* slot = static_cast<const IdSlot*>(hash_search(check->ids, &id, HASH_FIND, NULL));
    return slot == NULL ? -1 : slot->rule;
}

static CheckedRule* rule_by_id(const RuleCheck* check, int64 id) {
    int number = check_rule_number(check, id);
    return number < 0 ? NULL : &check->rules[number];
}

// Every lead that its condition holds for ends there: no territory that may not know the lead, and
// no needs that may turn out not to name skills.
static bool takes_all(const Rule* rule) {
    const RuleDemand* demand = rule->demand;
    return demand == NULL || (demand->territory == NULL && (!demand->has_needs || demand->fixed));
}

static void join_compiled(RuleCheck* check) {
    const RuleSet* set = check->set;
    for (int i = 0; i < set->rule_count; i++) {
        CheckedRule* rule = rule_by_id(check, set->rules[i]->id);
        if (rule == NULL || rule->run.expression == NULL)
            continue;
        rule->usable = true;
        rule->hides = takes_all(set->rules[i]) && !rule->has_valid;
    }
    for (int i = 0; i < set->step_count; i++) {
        const RuleStep* step = &set->steps[i];
        CheckedRule* rule = rule_by_id(check, set->rules[step->first]->id);
        if (!step->broken || rule == NULL)
            continue;
        rule->usable = rule->hides = false;
        rule->broken = step->message;
    }
    for (const RuleFault* fault = set->faults; fault != NULL; fault = fault->next) {
        CheckedRule* rule = rule_by_id(check, fault->rule);
        if (rule == NULL || fault->sqlstate != 0 || fault->missed)
            continue;
        rule->usable = rule->hides = false;
        rule->broken = fault->message;
    }
}

// --- the result ---

enum Column { C_RULE, C_FINDING, C_CERTAINTY, C_OTHERS, C_WITNESS, C_DETAIL };
constexpr int kColumns = C_DETAIL + 1;

struct Finding {
    const CheckedRule* rule; // NULL: of the lead table
    const char* finding;
    const char* certainty;
    const int* others;
    int other_count;
    const char* witness;
    const char* detail;
};

static Datum others_array(const RuleCheck* check, const Finding* finding) {
    int count = Min(finding->other_count, kMaxOthers);
    Datum ids[kMaxOthers];
    for (int i = 0; i < count; i++)
        ids[i] = Int64GetDatum(check->rules[finding->others[i]].id);
    return PointerGetDatum(
        construct_array(ids, count, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

static void put(const RuleCheck* check, ReturnSetInfo* rows, const Finding* finding) {
    Datum values[kColumns] = {};
    bool nulls[kColumns] = {};
    nulls[C_RULE] = finding->rule == NULL;
    if (finding->rule != NULL)
        values[C_RULE] = Int64GetDatum(finding->rule->id);
    values[C_FINDING] = CStringGetTextDatum(finding->finding);
    values[C_CERTAINTY] = CStringGetTextDatum(finding->certainty);
    values[C_OTHERS] = others_array(check, finding);
    const char* texts[] = {finding->witness, finding->detail};
    for (int i = 0; i < 2; i++) {
        nulls[C_WITNESS + i] = texts[i] == NULL;
        if (texts[i] != NULL)
            values[C_WITNESS + i] = CStringGetTextDatum(texts[i]);
    }
    tuplestore_putvalues(rows->setResult, rows->setDesc, values, nulls);
}

// What only a proof can tell. A rule that is never reached needs no second finding.
static bool put_proof(const RuleCheck* check, ReturnSetInfo* rows, Proof* proof, int number) {
    const CheckedRule* rule = &check->rules[number];
    if (rule->never || proof_contradictory(proof, number)) {
        Finding finding = {rule, "contradiction", "proved", NULL, 0, NULL, NULL};
        put(check, rows, &finding);
        return true;
    }
    List* others;
    if (!proof_hidden(proof, number, &others))
        return false;
    int numbers[kMaxOthers];
    int count = Min(list_length(others), kMaxOthers);
    for (int i = 0; i < count; i++)
        numbers[i] = list_nth_int(others, i);
    Finding finding = {rule, "unreachable", "proved", numbers, count, NULL, NULL};
    put(check, rows, &finding);
    return true;
}

static void put_seen(const RuleCheck* check, ReturnSetInfo* rows, const CheckedRule* rule) {
    const RuleSeen* seen = &rule->seen;
    bool everything = rule->run.expression != NULL && IsA(rule->run.expression, Const);
    if (!seen->won && seen->winners.count > 0) {
        Finding finding = {
            rule,          "unreachable", "seen", seen->winners.rule, seen->winners.count,
            seen->witness, NULL};
        put(check, rows, &finding);
    } else if (seen->overlaps.count > 0 && !everything) {
        Finding finding = {
            rule,          "overlap", "seen", seen->overlaps.rule, seen->overlaps.count,
            seen->overlap, NULL};
        put(check, rows, &finding);
    }
    if (seen->failed_on != NULL) {
        Finding finding = {rule, "error", "seen", NULL, 0, seen->failed_on, seen->failure};
        put(check, rows, &finding);
    }
}

// Why each lead that comes to the rule has to be checked against it, and what that takes.
static const char* cost_of(const CheckedRule* rule) {
    if (rule->run.kind == CONDITION_AS_AUTHOR)
        return "author";
    if (rule->run.kind == CONDITION_GUARDED)
        return "guarded";
    return "bare";
}

// Can it be found by a lead's values, whichever way it holds?
static bool is_keyed(const RuleCheck* check, const CheckedRule* rule) {
    RuleSlots* slots = static_cast<RuleSlots*>(palloc0(sizeof(RuleSlots)));
    const core::Predicate* asked = rule_analyse(rule->run.expression, check->lead, slots);
    for (int i = 0; i < asked->alternatives; i++)
        if (asked->alternative(i)->count == 0)
            return false;
    return true;
}

static void put_cost(const RuleCheck* check, ReturnSetInfo* rows, const CheckedRule* rule) {
    if (IsA(rule->run.expression, Const) || is_keyed(check, rule) ||
        (rule->run.kind == CONDITION_BARE && check->count < kManyRules))
        return;
    Finding finding = {rule, "not_indexable", "proved", NULL, 0, NULL, cost_of(rule)};
    put(check, rows, &finding);
}

// --- values that a condition asks for ---

struct Names {
    const RuleCheck* check;
    ReturnSetInfo* rows;
    const CheckedRule* rule;
};

static void put_value(const Names* names, const Var* column, Oid type, Datum value) {
    Oid output;
    bool varlena;
    getTypeOutputInfo(type, &output, &varlena);
    Form_pg_attribute attribute =
        TupleDescAttr(RelationGetDescr(names->check->lead), column->varattno - 1);
    Finding finding = {names->rule,
                       "value",
                       format_type_extended(type, -1, FORMAT_TYPE_FORCE_QUALIFY),
                       NULL,
                       0,
                       OidOutputFunctionCall(output, value),
                       NameStr(attribute->attname)};
    put(names->check, names->rows, &finding);
}

static void put_values(const Names* names, Node* side, Node* constant) {
    while (IsA(side, RelabelType))
        side = reinterpret_cast<Node*>(reinterpret_cast<RelabelType*>(side)->arg);
    if (!IsA(side, Var) || reinterpret_cast<Var*>(side)->varattno <= 0 || !IsA(constant, Const) ||
        reinterpret_cast<Const*>(constant)->constisnull)
        return;
    const Var* column = reinterpret_cast<const Var*>(side);
    const Const* value = reinterpret_cast<const Const*>(constant);
    Oid element = get_element_type(value->consttype);
    bool list = OidIsValid(element);
    Oid type = list ? element : value->consttype;
    if (type >= FirstNormalObjectId || column->vartype == BOOLOID)
        return;
    if (!list) {
        put_value(names, column, type, value->constvalue);
        return;
    }
    ArrayIterator items = array_create_iterator(DatumGetArrayTypeP(value->constvalue), 0, NULL);
    Datum item;
    bool isnull;
    while (array_iterate(items, &item, &isnull))
        if (!isnull)
            put_value(names, column, type, item);
}

// Goes where the condition holds if what is there does: not below NOT.
static void find_values(const Names* names, Expr* node) {
    if (IsA(node, BoolExpr) && reinterpret_cast<BoolExpr*>(node)->boolop != NOT_EXPR) {
        ListCell* cell;
        foreach (cell, reinterpret_cast<BoolExpr*>(node)->args)
            find_values(names, static_cast<Expr*>(lfirst(cell)));
    } else if (IsA(node, OpExpr)) {
        const OpExpr* call = reinterpret_cast<const OpExpr*>(node);
        if (list_length(call->args) == 2 && is_equality(call->opno)) {
            put_values(names, static_cast<Node*>(linitial(call->args)),
                       static_cast<Node*>(lsecond(call->args)));
            put_values(names, static_cast<Node*>(lsecond(call->args)),
                       static_cast<Node*>(linitial(call->args)));
        }
    } else if (IsA(node, ScalarArrayOpExpr)) {
        const ScalarArrayOpExpr* list = reinterpret_cast<const ScalarArrayOpExpr*>(node);
        if (list->useOr && is_equality(list->opno))
            put_values(names, static_cast<Node*>(linitial(list->args)),
                       static_cast<Node*>(lsecond(list->args)));
    }
}

// --- all of it ---

static void check_rule(const RuleCheck* check, ReturnSetInfo* rows, Proof* proof, int number) {
    const CheckedRule* rule = &check->rules[number];
    if (rule->broken != NULL) {
        Finding finding = {rule, "broken", "proved", NULL, 0, NULL, rule->broken};
        put(check, rows, &finding);
        return;
    }
    if (put_proof(check, rows, proof, number))
        return;
    put_seen(check, rows, rule);
    put_cost(check, rows, rule);
    Names names = {check, rows, rule};
    if (check->leads > 0)
        find_values(&names, rule->run.expression);
}

// Of the table as a whole.
static void put_table(const RuleCheck* check, ReturnSetInfo* rows, Proof* proof) {
    bool any = false;
    for (int i = 0; i < check->count; i++)
        any |= check->rules[i].usable && !check->rules[i].never;
    Finding gap = {NULL, "gap", any ? "seen" : "proved", NULL, 0, check->lost, NULL};
    if (!any || (check->lost != NULL && !proof_complete(proof)))
        put(check, rows, &gap);
    const char* reasons[] = {check->denied ? "denied" : NULL, check->given_up ? "leads" : NULL,
                             proof_exhausted(proof) ? "proofs" : NULL};
    for (const char* reason : reasons) {
        Finding missing = {NULL, "not_checked", "proved", NULL, 0, NULL, reason};
        if (reason != NULL)
            put(check, rows, &missing);
    }
    Finding leads = {NULL, "leads", "seen", NULL, 0, NULL, psprintf(INT64_FORMAT, check->leads)};
    put(check, rows, &leads);
}

static void check_rules(RuleCheck* check, ReturnSetInfo* rows) {
    check->set = rules_rehearse(check->lead, check->table->id, check->tenant);
    read_rules(check);
    compile_rules(check);
    number_rules(check);
    join_compiled(check);
    if (check->sample > 0)
        check_leads(check);

    Proof* proof = proof_begin(check->count);
    for (int i = 0; i < check->count; i++) {
        const CheckedRule* rule = &check->rules[i];
        proof_add(proof, rule->usable && !rule->never ? rule->run.expression : NULL, rule->hides);
    }
    MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "leadroute rule findings",
                                                  ALLOCSET_DEFAULT_SIZES);
    MemoryContext caller = MemoryContextSwitchTo(scratch);
    for (int i = 0; i < check->count; i++) {
        CHECK_FOR_INTERRUPTS();
        check_rule(check, rows, proof, i);
        MemoryContextReset(scratch);
    }
    put_table(check, rows, proof);
    MemoryContextSwitchTo(caller);
    rules_free(check->set);
}

extern "C" {
PG_FUNCTION_INFO_V1(leadroute_check_conditions);

// _check_conditions(lead regclass, tenant bigint, sample integer) -> SETOF (rule, finding,
// certainty, other_rules, witness, detail), for a caller with the level manager. Besides findings:
// `value` (a column in detail, a value in witness, its type in certainty) and `leads` (how many
// were looked at).
Datum leadroute_check_conditions(PG_FUNCTION_ARGS) {
    shared_require();
    int64 tenant = PG_GETARG_INT64(1);
    require_level(tenant, "{manager}");
    Relation relation = relation_open(PG_GETARG_OID(0), AccessShareLock);
    ReturnSetInfo* rows = start_rows(fcinfo);
    RuleCheck check = {};
    check.lead = relation;
    check.table = lead_table_of(relation);
    check.tenant = tenant;
    check.sample = PG_GETARG_INT32(2);
    check_rules(&check, rows);
    relation_close(relation, NoLock);
    return (Datum)0;
}
}
