// The leads that are there, against the rules: which rule takes each, and which later ones would
// have. Leads are read with the rights of who calls; conditions run with their authors'.
#include "check_rules.h"

#include "lead_row.h"
#include "rule_chains.h"

extern "C" {
#include "utils/acl.h"
#include "utils/builtins.h"
}

constexpr int kLeadsAtOnce = 200;
// Conditions evaluated in one call; then no more leads are looked at.
constexpr int64 kMaxEvaluations = 20000000;

struct LeadSearch {
    RuleCheck* check;
    RuleChains* chains; // of usable rules, for leads
    MemoryContext kept;
    RuleFault* faults; // of the compilation
    int64 evaluations;
    TimestampTz now;
    const char* id; // of the lead at hand
    int winner;     // check->count: none
};

static char* quoted(Oid relation) {
    return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relation)),
                                      get_rel_name(relation));
}

// The latest leads by their key, as whole rows.
static char* query_of(const RuleCheck* check) {
    TupleDesc columns = RelationGetDescr(check->lead);
    const char* key =
        quote_identifier(NameStr(TupleDescAttr(columns, check->table->key_column - 1)->attname));
    StringInfoData query;
    initStringInfo(&query);
    appendStringInfo(&query,
                     "SELECT \"leadroute row\".%s::pg_catalog.text, \"leadroute row\" FROM %s AS "
                     "\"leadroute row\"",
                     key, quoted(RelationGetRelid(check->lead)));
    if (check->table->tenant_column != InvalidAttrNumber)
        appendStringInfo(&query,
                         " WHERE \"leadroute row\".%s OPERATOR(pg_catalog.=) %s::pg_catalog.int8",
                         quote_identifier(NameStr(
                             TupleDescAttr(columns, check->table->tenant_column - 1)->attname)),
                         quote_literal_cstr(psprintf(INT64_FORMAT, check->tenant)));
    appendStringInfo(&query, " ORDER BY \"leadroute row\".%s DESC LIMIT %d", key, check->sample);
    return query.data;
}

static bool may_read(const RuleCheck* check) {
    Oid relation = RelationGetRelid(check->lead);
    return pg_class_aclcheck(relation, GetUserId(), ACL_SELECT) == ACLCHECK_OK ||
           pg_attribute_aclcheck_all(relation, GetUserId(), ACL_SELECT, ACLMASK_ALL) == ACLCHECK_OK;
}

static void note_other(Others* others, int rule) {
    for (int i = 0; i < Min(others->count, kMaxOthers); i++)
        if (others->rule[i] == rule)
            return;
    if (others->count < kMaxOthers)
        others->rule[others->count] = rule;
    others->count++;
}

static const char* keep(const LeadSearch* search, const char* text) {
    return MemoryContextStrdup(search->kept, text);
}

// Errors of the rules that the lead came to.
static void note_faults(const LeadSearch* search) {
    RuleSet* set = search->check->set;
    for (const RuleFault* fault = set->faults; fault != search->faults; fault = fault->next) {
        if (fault->missed || fault->sqlstate == 0)
            continue;
        int number = check_rule_number(search->check, fault->rule);
        if (number < 0)
            continue;
        RuleSeen* seen = &search->check->rules[number].seen;
        if (seen->failed_on != NULL)
            continue;
        seen->failed_on = keep(search, search->id);
        seen->failure = keep(search, psprintf("%s (SQLSTATE %s)", fault->message,
                                              unpack_sql_state(fault->sqlstate)));
    }
    set->faults = search->faults;
}

// A rule after the one that took the lead.
static void try_later(LeadSearch* search, int number, TupleTableSlot* slot) {
    RuleCheck* check = search->check;
    CheckedRule* rule = &check->rules[number];
    if (search->winner < 0 || number <= search->winner || !rule->valid_now)
        return;
    search->evaluations++;
    Datum value;
    ErrorData* error;
    bool present = rule_expression_alone(check->set, &rule->run, slot, &value, &error);
    if (!present || error != NULL || !DatumGetBool(value))
        return;
    RuleSeen* seen = &rule->seen;
    if (seen->witness == NULL)
        seen->witness = keep(search, search->id);
    note_other(&seen->winners, search->winner);
    if (strcmp(rule->target, check->rules[search->winner].target) == 0)
        return;
    if (seen->overlap == NULL)
        seen->overlap = keep(search, search->id);
    note_other(&seen->overlaps, search->winner);
}

// What the lead has in the column of a key; false: NULL.
static bool key_of(TupleTableSlot* slot, const RuleKey* column, RuleKey* key) {
    bool isnull;
    Datum value = slot_getattr(slot, column->column, &isnull);
    if (isnull)
        return false;
    *key = {};
    key->kind = column->kind;
    key->column = column->column;
    key->number = value;
    if (column->kind == RuleKeyKind::text) {
        text* words = DatumGetTextPP(value);
        key->text = VARDATA_ANY(words);
        key->length = static_cast<int32>(VARSIZE_ANY_EXHDR(words));
    }
    return true;
}

static void try_others(LeadSearch* search, TupleTableSlot* slot) {
    int count;
    const int* unkeyed = rule_chains_unkeyed(search->chains, &count);
    int tried = count;
    for (; tried > 0 && unkeyed[tried - 1] > search->winner; tried--)
        try_later(search, unkeyed[tried - 1], slot);
    search->evaluations += tried; // by the match
    const RuleKey* columns = rule_chains_columns(search->chains, &count);
    for (int i = 0; i < count; i++) {
        RuleKey key;
        if (!key_of(slot, &columns[i], &key))
            continue;
        int number = rule_chains_first(search->chains, &key);
        for (; number >= 0; number = rule_chains_next(search->chains, number))
            try_later(search, number, slot);
    }
}

static void look_at(LeadSearch* search, TupleTableSlot* slot) {
    RuleCheck* check = search->check;
    RuleFailures failures;
    const Rule* rule = rules_match(check->set, slot, search->now, &failures);
    search->winner = rule == NULL ? check->count : check_rule_number(check, rule->id);
    note_faults(search);
    check->leads++;
    if (rule == NULL && check->lost == NULL)
        check->lost = keep(search, search->id);
    if (rule != NULL && search->winner >= 0)
        check->rules[search->winner].seen.won = true;
    try_others(search, slot);
}

static void look_at_fetched(LeadSearch* search, MemoryContext scratch) {
    RuleCheck* check = search->check;
    SPITupleTable* found = SPI_tuptable;
    for (uint64 i = 0; i < SPI_processed && i < found->numvals; i++) {
        CHECK_FOR_INTERRUPTS();
        MemoryContext caller = MemoryContextSwitchTo(scratch);
        bool isnull;
        search->id = SPI_getvalue(found->vals[i], found->tupdesc, 1);
        Datum row = SPI_getbinval(found->vals[i], found->tupdesc, 2, &isnull);
        TupleTableSlot* slot = lead_row_slot(check->lead, DatumGetHeapTupleHeader(row));
        look_at(search, slot);
        ExecDropSingleTupleTableSlot(slot);
        MemoryContextSwitchTo(caller);
        MemoryContextReset(scratch);
        check->given_up = search->evaluations > kMaxEvaluations;
        if (check->given_up)
            break;
    }
    SPI_freetuptable(found);
}

static void look_at_all(LeadSearch* search) {
    RuleCheck* check = search->check;
    char* query = query_of(check);
    SPI_connect();
    MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "leadroute checked lead",
                                                  ALLOCSET_DEFAULT_SIZES);
    Portal leads = SPI_cursor_open_with_args(NULL, query, 0, NULL, NULL, NULL, true, 0);
    for (;;) {
        SPI_cursor_fetch(leads, true, kLeadsAtOnce);
        uint64 count = SPI_processed;
        if (count == 0)
            break;
        look_at_fetched(search, scratch);
        if (check->given_up || count < kLeadsAtOnce)
            break;
    }
    SPI_cursor_close(leads);
    SPI_finish();
}

void check_leads(RuleCheck* check) {
    check->denied = !may_read(check);
    if (check->denied)
        return;
    LeadSearch search = {};
    search.check = check;
    search.kept = CurrentMemoryContext;
    search.faults = check->set->faults;
    search.now = GetCurrentTimestamp();
    search.chains = rule_chains_begin(check->count);
    for (int i = 0; i < check->count; i++) {
        const CheckedRule* rule = &check->rules[i];
        if (!rule->usable || rule->never)
            continue;
        // another condition may be evaluated where its key is not met: it raises what it raises
        RuleKey key = {};
        if (rule->run.kind == CONDITION_BARE)
            key = rule_chains_key(rule->run.expression);
        rule_chains_add(search.chains, &key, i);
    }
    look_at_all(&search);
}
