// Compiling the rules of one lead relation and tenant.
#include "rule_compile.h"

#include "attempt.h"
#include "rule_book.h"

extern "C" {
#include "optimizer/optimizer.h"
#include "utils/fmgroids.h"
#include "utils/plancache.h"
#include "utils/rangetypes.h"
#include "utils/typcache.h"
}

// --- compiling one rule ---

// The condition as it is evaluated, with what it depends on registered.
Expr* rule_plan(RuleSet* set, const Condition* condition) {
    List* relations;
    List* objects;
    AuthorScope scope;
    author_scope_begin(&scope, condition->author);
    Expr* planned = expression_planner_with_deps(condition->expression, &relations, &objects);
    author_scope_end(&scope);
    if (contain_volatile_functions(reinterpret_cast<Node*>(planned)))
        ereport(ERROR, (errcode(ERRCODE_LR_EXPRESSION),
                        errmsg("an expression of \"%s\" is volatile", condition->rule)));
    convert_saop_to_hashed_saop(reinterpret_cast<Node*>(planned));

    ListCell* cell;
    foreach (cell, objects) {
        const PlanInvalItem* item = static_cast<const PlanInvalItem*>(lfirst(cell));
        rule_set_depend_object(set, item->cacheId, item->hashValue);
        set->user_objects = true;
    }
    MemoryContext caller = MemoryContextSwitchTo(set->context);
    set->relations = list_concat_unique_oid(set->relations, relations);
    MemoryContextSwitchTo(caller);
    return planned;
}

static void compile_condition(void* argument) {
    Compiler* compiler = static_cast<Compiler*>(argument);
    RuleSource* source = compiler->source;
    Condition condition = {};
    condition.lead = compiler->lead;
    condition.rule = source->rule->name;
    condition.text = source->condition;
    condition.author = source->role;
    condition_parse(&condition);
    rule_set_depend_condition(compiler->set, source->author, &condition);
    Expr* planned = rule_plan(compiler->set, &condition);
    source->kind = condition_class(planned);

    MemoryContext caller = MemoryContextSwitchTo(compiler->kept);
    source->expression = static_cast<Expr*>(copyObjectImpl(planned));
    MemoryContextSwitchTo(caller);
    if (source->rule->demand != NULL)
        rule_demand_compile(compiler->set, compiler->lead, source->rule, source->author,
                            source->role);
}

void rule_expression_keep(RuleSet* set, const Condition* parsed, const char* author,
                          RuleExpression* kept) {
    rule_set_depend_condition(set, author, parsed);
    Expr* planned = rule_plan(set, parsed);
    kept->kind = value_class(planned);
    kept->author = parsed->author;
    MemoryContext caller = MemoryContextSwitchTo(set->context);
    kept->expression = static_cast<Expr*>(copyObjectImpl(planned));
    MemoryContextSwitchTo(caller);
}

static void compile_label(void* argument) {
    Compiler* compiler = static_cast<Compiler*>(argument);
    const LabelValue* value = compiler->value;
    AuthorScope scope;
    author_scope_begin(&scope, compiler->source->role);
    Datum converted = label_convert(compiler->lead, &compiler->reserved, value);
    author_scope_end(&scope);

    RuleLabel* label = compiler->label;
    label->attribute = value->attribute;
    label->isnull = value->text == NULL;
    if (label->isnull)
        return;
    Form_pg_attribute column =
        TupleDescAttr(RelationGetDescr(compiler->lead), value->attribute - 1);
    MemoryContext caller = MemoryContextSwitchTo(compiler->kept);
    label->value = datumCopy(converted, column->attbyval, column->attlen);
    MemoryContextSwitchTo(caller);
}

// Tells people, or whoever asked about this rule, what is wrong with it.
static void report(Compiler* compiler, const char* message) {
    RuleSet* set = compiler->set;
    set->broken = true;
    if (set->rehearsal) {
        if (compiler->source->left_out) // others tell when they are met
            rule_set_fault(set, compiler->source->rule->id, 0, message);
        return;
    }
    if (set->report_only) {
        if (set->problem == NULL)
            set->problem = MemoryContextStrdup(set->context, message);
        return;
    }
    if (XactReadOnly)
        return; // the next lead will tell
    Alert alert = {};
    alert.kind = "rule_error";
    alert.tenant = set->tenant;
    alert.lead_table = set->lead_table;
    alert.rule = compiler->source->rule->id;
    alert.message = message;
    raise_alert(&alert);
}

static ErrorData* try_compile(Compiler* compiler, void (*body)(void*)) {
    const RuleSet* set = compiler->set;
    if (leadroute_on_rule_error == RULE_ERROR_ERROR && !set->report_only && !set->rehearsal) {
        body(compiler);
        return NULL;
    }
    return attempt_apart(body, compiler);
}

static void compile_labels(Compiler* compiler) {
    Rule* rule = compiler->source->rule;
    int count;
    LabelValue* values = label_values(compiler->lead, DatumGetJsonbP(rule->label), &count);
    rule->labels = static_cast<RuleLabel*>(
        MemoryContextAllocZero(compiler->kept, sizeof(RuleLabel) * (count + 1)));
    for (int i = 0; i < count; i++) {
        compiler->value = &values[i];
        compiler->label = &rule->labels[rule->label_count];
        ErrorData* error = try_compile(compiler, compile_label);
        if (error == NULL)
            rule->label_count++;
        else
            report(compiler, psprintf("label of rule \"%s\" not written to the lead: %s",
                                      rule->name, error->message));
    }
}

// A role whose rights the rule would need is missing.
static void leave_out(Compiler* compiler, const char* whose, const char* role) {
    compiler->source->left_out = true;
    report(compiler, psprintf("rule \"%s\" is inactive: %s, role \"%s\", does not exist",
                              compiler->source->rule->name, whose, role));
}

void rule_compile_source(Compiler* compiler) {
    RuleSource* source = compiler->source;
    const RuleDemand* demand = source->rule->demand;
    source->role = get_role_oid(source->author, true);
    if (!OidIsValid(source->role)) {
        leave_out(compiler, "its author", source->author);
        return;
    }
    if (demand != NULL && demand->key_author != NULL &&
        !OidIsValid(get_role_oid(demand->key_author, true))) {
        leave_out(compiler, "the author of its territory", demand->key_author);
        return;
    }
    ErrorData* error = try_compile(compiler, compile_condition);
    if (error != NULL) {
        source->broken = true;
        source->sqlstate = error->sqlerrcode;
        source->message = MemoryContextStrdup(compiler->kept, error->message);
        report(compiler, error->message);
    }
    if (source->rule->has_label && !compiler->set->report_only && !compiler->set->rehearsal)
        compile_labels(compiler);
}

// --- periods of validity ---

// `$1 function bound`, where $1 is the time of the match.
static Expr* compare_time(Oid function, Datum bound) {
    Param* time = makeNode(Param);
    time->paramkind = PARAM_EXTERN;
    time->paramid = 1;
    time->paramtype = TIMESTAMPTZOID;
    time->paramtypmod = -1;
    time->location = -1;
    Const* value = makeConst(TIMESTAMPTZOID, -1, InvalidOid, sizeof(TimestampTz), bound, false,
                             FLOAT8PASSBYVAL);
    return reinterpret_cast<Expr*>(makeFuncExpr(function, BOOLOID, list_make2(time, value),
                                                InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL));
}

// Puts the period before the condition; the class stays, comparing times cannot raise an error.
void rule_add_period(RuleSource* source) {
    RangeType* range = DatumGetRangeTypeP(source->valid);
    RangeBound lower;
    RangeBound upper;
    bool empty;
    range_deserialize(lookup_type_cache(RangeTypeGetOid(range), TYPECACHE_RANGE_INFO), range,
                      &lower, &upper, &empty);
    if (empty) {
        source->left_out = true;
        return;
    }
    List* all = NIL;
    if (!lower.infinite)
        all = lappend(
            all, compare_time(lower.inclusive ? F_TIMESTAMPTZ_GE : F_TIMESTAMPTZ_GT, lower.val));
    if (!upper.infinite)
        all = lappend(
            all, compare_time(upper.inclusive ? F_TIMESTAMPTZ_LE : F_TIMESTAMPTZ_LT, upper.val));
    if (all == NIL)
        return;
    if (source->expression != NULL)
        all = lappend(all, source->expression);
    source->expression =
        list_length(all) == 1 ? static_cast<Expr*>(linitial(all)) : makeBoolExpr(AND_EXPR, all, -1);
}

// --- putting them together ---

static void add_single(RuleSet* set, const RuleSource* source) {
    RuleStep* step = &set->steps[set->step_count++];
    step->kind = source->broken ? CONDITION_BARE : source->kind;
    step->broken = source->broken;
    step->first = set->rule_count - 1;
    step->count = 1;
    step->expression = source->expression;
    step->author = source->role;
    step->sqlstate = source->sqlstate;
    step->message = source->message;
    if (step->broken && step->expression != NULL)
        step->state = rule_state_trusted(step->expression);
}

// A rule with a key is a step by itself.
static bool add_keyed(RuleSet* set, const RuleSource* source) {
    Expr* rest;
    RuleKey key = rule_key_find(source->expression, &rest);
    if (key.kind == RuleKeyKind::none)
        return false;
    set->keys[set->step_count] = key;
    RuleStep* step = &set->steps[set->step_count++];
    step->kind = CONDITION_BARE;
    step->first = set->rule_count - 1;
    step->count = 1;
    step->expression = rest;
    return true;
}

void rule_add_step(RuleSet* set, const RuleSource* source) {
    if (source->broken || source->kind != CONDITION_BARE || !add_keyed(set, source))
        add_single(set, source);
}

// Adds a branch to the CASE under way, beginning one where the step before is of another kind.
static void add_bare(RuleSet* set, const RuleSource* source) {
    int last = Max(set->step_count - 1, 0);
    // rule_count counts this rule already
    bool goes_on = set->step_count > 0 && !set->steps[last].broken &&
                   set->steps[last].kind == CONDITION_BARE &&
                   set->keys[last].kind == RuleKeyKind::none &&
                   set->rules[set->rule_count - 2]->demand == NULL;
    RuleStep* step = &set->steps[goes_on ? last : set->step_count++];
    if (!goes_on) {
        step->kind = CONDITION_BARE;
        step->chooses = true;
        step->first = set->rule_count - 1;
        CaseExpr* all = makeNode(CaseExpr);
        all->casetype = INT4OID;
        all->defresult = reinterpret_cast<Expr*>(makeNullConst(INT4OID, -1, InvalidOid));
        all->location = -1;
        step->expression = reinterpret_cast<Expr*>(all);
    }
    step->count++;
    CaseWhen* branch = makeNode(CaseWhen);
    branch->expr = source->expression != NULL ? source->expression
                                              : reinterpret_cast<Expr*>(makeBoolConst(true, false));
    branch->result = reinterpret_cast<Expr*>(makeConst(
        INT4OID, -1, InvalidOid, sizeof(int32), Int32GetDatum(set->rule_count - 1), false, true));
    branch->location = -1;
    CaseExpr* all = reinterpret_cast<CaseExpr*>(step->expression);
    all->args = lappend(all->args, branch);
}

static void build_steps(Compiler* compiler) {
    RuleSet* set = compiler->set;
    MemoryContext caller = MemoryContextSwitchTo(set->context);
    set->rules = static_cast<Rule**>(palloc(sizeof(void*) * (compiler->count + 1)));
    set->steps = static_cast<RuleStep*>(palloc0(sizeof(RuleStep) * (compiler->count + 1)));
    set->keys = static_cast<RuleKey*>(palloc0(sizeof(RuleKey) * (compiler->count + 1)));
    for (int i = 0; i < compiler->count; i++) {
        RuleSource* source = &compiler->sources[i];
        if (source->has_valid)
            rule_add_period(source);
        if (source->left_out || (!source->broken && source->kind == CONDITION_NEVER))
            continue;
        set->rules[set->rule_count++] = source->rule;
        if (source->broken || source->kind != CONDITION_BARE)
            add_single(set, source);
        else if (!add_keyed(set, source))
            add_bare(set, source);
    }
    rule_set_prepare(set);
    MemoryContextSwitchTo(caller);
}

static void compile_all(Compiler* compiler, MemoryContext scratch) {
    for (int i = 0; i < compiler->count; i++) {
        CHECK_FOR_INTERRUPTS();
        compiler->source = &compiler->sources[i];
        rule_compile_source(compiler);
        MemoryContextReset(scratch);
    }
}

// Builds below the current memory context, so that an error on the way leaves nothing behind.
static RuleSet* compile(Relation lead, int32 lead_table, int64 tenant, int64 only_rule,
                        bool rehearsal) {
    rules_forbid_nesting();
    MemoryContext context =
        AllocSetContextCreate(CurrentMemoryContext, "leadroute rules", ALLOCSET_DEFAULT_SIZES);
    RuleSet* set = static_cast<RuleSet*>(MemoryContextAllocZero(context, sizeof(RuleSet)));
    set->context = context;
    set->lead_table = lead_table;
    set->tenant = tenant;
    set->report_only = only_rule != 0;
    set->rehearsal = rehearsal;
    rule_set_watch(set, lead);

    Compiler compiler = {};
    compiler.set = set;
    compiler.kept = context;
    compiler.lead = lead;
    MemoryContext sources = AllocSetContextCreate(CurrentMemoryContext, "leadroute rule sources",
                                                  ALLOCSET_DEFAULT_SIZES);
    MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "leadroute rule compiler",
                                                  ALLOCSET_DEFAULT_SIZES);
    MemoryContext caller = MemoryContextSwitchTo(sources);
    const RuleIds none = {NULL, 0};
    bool indexed = only_rule == 0 && leadroute_rule_index && rules_are_many(set, lead);
    rules_read(&compiler, only_rule, indexed ? &none : NULL);
    MemoryContextSwitchTo(scratch);
    if (indexed && !rules_index(&compiler)) {
        indexed = false;
        MemoryContextSwitchTo(sources);
        rules_read(&compiler, 0, NULL);
        MemoryContextSwitchTo(scratch);
    }
    if (!indexed)
        compile_all(&compiler, scratch);
    sticky_compile(set, lead);
    if (!indexed)
        build_steps(&compiler);
    MemoryContextSwitchTo(caller);
    MemoryContextDelete(scratch);
    MemoryContextDelete(sources);
    return set;
}

RuleSet* rules_compile(Relation lead, int32 lead_table, int64 tenant, MemoryContext parent) {
    RuleSet* set = compile(lead, lead_table, tenant, 0, false);
    MemoryContextSetParent(set->context, parent);
    return set;
}

RuleSet* rules_rehearse(Relation lead, int32 lead_table, int64 tenant) {
    return compile(lead, lead_table, tenant, 0, true);
}

char* rule_problem(Relation lead, int32 lead_table, int64 tenant, int64 rule) {
    RuleSet* set = compile(lead, lead_table, tenant, rule, false);
    char* problem = set->problem == NULL ? NULL : pstrdup(set->problem);
    rules_free(set);
    return problem;
}
