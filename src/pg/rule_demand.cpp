// What a rule asks of a lead that its condition holds for: an entry of its territory for the lead's
// key, and skills of whoever receives it.
#include "rule_set.h"

#include "attempt.h"
#include "territory.h"

extern "C" {
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
}

static char* kept_text(const RuleSet* set, HeapTuple row, int column) {
    char* text = SPI_getvalue(row, SPI_tuptable->tupdesc, column);
    return text == NULL ? NULL : MemoryContextStrdup(set->context, text);
}

RuleDemand* rule_demand_read(RuleSet* set, HeapTuple row, int first) {
    char* needs = kept_text(set, row, first);
    char* territory = kept_text(set, row, first + 1);
    if (needs == NULL && territory == NULL)
        return NULL;
    RuleDemand* demand =
        static_cast<RuleDemand*>(MemoryContextAllocZero(set->context, sizeof(RuleDemand)));
    demand->needs_text = needs;
    demand->territory = territory;
    if (territory == NULL)
        return demand;
    demand->key_text = kept_text(set, row, first + 2);
    demand->prefix = strcmp(kept_text(set, row, first + 3), "prefix") == 0;
    demand->key_author = kept_text(set, row, first + 4);
    return demand;
}

static void parse_needs(RuleSet* set, Relation lead, const Rule* rule, const char* author,
                        Oid role) {
    RuleDemand* demand = rule->demand;
    Condition condition = {};
    condition.lead = lead;
    condition.rule = rule->name;
    condition.text = demand->needs_text;
    condition.author = role;
    condition.use = ExpressionUse::needs;
    condition_parse(&condition);
    rule_expression_keep(set, &condition, author, &demand->need_expression);
    demand->has_needs = true;
    Expr* expression = demand->need_expression.expression;
    if (!IsA(expression, Const)) {
        // computed ones may turn out not to name a skill
        if (demand->need_expression.kind == CONDITION_BARE)
            demand->need_expression.kind = CONDITION_GUARDED;
        return;
    }
    const Const* value = reinterpret_cast<const Const*>(expression);
    demand->fixed = true;
    demand->has_needs = !value->constisnull;
    if (demand->has_needs) {
        MemoryContext caller = MemoryContextSwitchTo(set->context);
        needs_read(DatumGetArrayTypePCopy(value->constvalue), &demand->needs);
        MemoryContextSwitchTo(caller);
    }
}

struct Folding {
    const Condition* parsed;
    Node* folded;
};

// As planning does it.
static void fold(void* argument) {
    Folding* folding = static_cast<Folding*>(argument);
    AuthorScope scope;
    author_scope_begin(&scope, folding->parsed->author);
    folding->folded = eval_const_expressions(
        NULL, static_cast<Node*>(copyObjectImpl(folding->parsed->expression)));
    author_scope_end(&scope);
}

void needs_check_fixed(const Condition* parsed) {
    Folding folding = {parsed, NULL};
    if (attempt_apart(fold, &folding) != NULL || !IsA(folding.folded, Const))
        return;
    const Const* value = reinterpret_cast<const Const*>(folding.folded);
    Needs needs;
    if (!value->constisnull)
        needs_read(DatumGetArrayTypeP(value->constvalue), &needs);
}

static void parse_key(RuleSet* set, Relation lead, const RuleDemand* demand, RuleExpression* key) {
    Condition condition = {};
    condition.lead = lead;
    condition.rule = demand->territory;
    condition.text = demand->key_text;
    condition.author = get_role_oid(demand->key_author, false);
    condition.use = ExpressionUse::key;
    condition_parse(&condition);
    rule_expression_keep(set, &condition, demand->key_author, key);
}

void rule_demand_compile(RuleSet* set, Relation lead, Rule* rule, const char* author, Oid role) {
    RuleDemand* demand = rule->demand;
    if (demand->needs_text != NULL)
        parse_needs(set, lead, rule, author, role);
    if (demand->territory != NULL)
        parse_key(set, lead, demand, &demand->key);
}

bool rule_demand_bare(const Rule* rule) {
    const RuleDemand* demand = rule->demand;
    return demand == NULL || ((!demand->has_needs || demand->fixed) &&
                              (demand->territory == NULL || demand->key.kind == CONDITION_BARE));
}

// --- for a lead ---

struct PoolEntry {
    char name[256];
    int32 id;
};

static int32 read_pool(int64 tenant, const char* name) {
    Oid types[] = {INT8OID, TEXTOID};
    Datum values[] = {Int64GetDatum(tenant), CStringGetTextDatum(name)};
    OwnerScope owner;
    owner_scope_begin(&owner);
    SPI_connect();
    PushActiveSnapshot(GetLatestSnapshot());
    if (SPI_execute_with_args("SELECT id FROM leadroute.pool WHERE tenant = $1 AND name = $2",
                              lengthof(types), types, values, NULL, true, 1) != SPI_OK_SELECT)
        elog(ERROR, "cannot read leadroute.pool");
    bool isnull;
    int32 id = SPI_processed == 0 ? 0
                                  : DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[0],
                                                                SPI_tuptable->tupdesc, 1, &isnull));
    PopActiveSnapshot();
    SPI_finish();
    owner_scope_end(&owner);
    return id;
}

// A pool's id; 0: there is none. Ids never change, and a set does not outlive a change of names.
static int32 pool_id(void* context, const char* name) {
    RuleSet* set = static_cast<RuleSet*>(context);
    if (set->pools == NULL) {
        HASHCTL control = {};
        control.keysize = sizeof(PoolEntry::name);
        control.entrysize = sizeof(PoolEntry);
        control.hcxt = set->context;
        set->pools = hash_create("leadroute territory pools", 64, &control,
                                 HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
    }
    const PoolEntry* known =
        static_cast<const PoolEntry*>(hash_search(set->pools, name, HASH_FIND, NULL));
    if (known != NULL)
        return known->id;
    int32 id = read_pool(set->tenant, name);
    if (id != 0)
        static_cast<PoolEntry*>(hash_search(set->pools, name, HASH_ENTER, NULL))->id = id;
    return id;
}

static void note_miss(RuleSet* set, const Rule* rule, const text* key) {
    RuleMisses* misses = &set->misses;
    if (misses->count < kMaxFailures)
        misses->rule[misses->count] = rule->id;
    misses->count++;
    if (!set->rehearsal)
        return;
    const char* territory = rule->demand->territory;
    char* words = key == NULL ? psprintf("the lead has no key for territory \"%s\"", territory)
                              : psprintf("territory \"%s\" has no entry for \"%s\"", territory,
                                         text_to_cstring(key));
    rule_set_fault(set, rule->id, 0, words);
    set->faults->missed = true;
}

static bool find_target(RuleSet* set, const Rule* rule) {
    RuleDemand* demand = rule->demand;
    Datum value;
    text* key = NULL;
    TerritoryTarget target = {};
    if (rule_expression_run(set, &demand->key, &value)) {
        key = DatumGetTextPP(value);
        TerritoryQuestion question = {set->tenant, demand->territory, demand->prefix,
                                      VARDATA_ANY(key), static_cast<int32>(VARSIZE_ANY_EXHDR(key))};
        territory_find(&question, pool_id, set, &target);
    }
    if (!target.found) {
        note_miss(set, rule, key);
        return false;
    }
    set->ask.pool = target.pool;
    set->ask.rep = target.rep;
    return true;
}

bool rule_demand_meet(RuleSet* set, const Rule* rule) {
    RuleDemand* demand = rule->demand;
    set->ask = {rule->pool, rule->rep, NULL};
    if (demand->has_needs && !demand->fixed) {
        Datum value;
        demand->needs.count = 0;
        if (rule_expression_run(set, &demand->need_expression, &value))
            needs_read(DatumGetArrayTypeP(value), &demand->needs);
    }
    if (demand->has_needs && demand->needs.count > 0)
        set->ask.needs = &demand->needs;
    return demand->territory == NULL || find_target(set, rule);
}
