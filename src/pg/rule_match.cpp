// Finding the first rule that matches a lead.
//
// Bare rules are evaluated as they are. From the first other rule on, everything runs inside one
// internal subtransaction; an error rolls it back, is noted, and the next rule begins another.
#include "rule_set.h"

#include "attempt.h"

extern "C" {
#include "storage/proc.h"
}

struct RuleMatch {
    RuleSet* set;
    RuleFailures* failures;
    ResourceOwner owner; // of who called
    int step;
    int matched; // index of the rule, -1: none yet
    bool in_subtransaction;
};

// A match is under way that may run functions of users.
static bool running;

// False: there is no further step.
static bool next_step(RuleMatch* match) {
    RuleSet* set = match->set;
    if (set->indexed == NULL)
        return ++match->step < set->step_count;
    bool was_running = running;
    running = false; // should it raise an error
    match->step = indexed_next(set);
    running = was_running;
    return match->step >= 0;
}

void rule_set_prepare(RuleSet* set) {
    set->econtext = CreateStandaloneExprContext();
    set->parameters = makeParamList(1);
    set->parameters->params[0].isnull = false;
    set->parameters->params[0].ptype = TIMESTAMPTZOID;
    set->parameters->params[0].pflags = PARAM_FLAG_CONST;
    set->econtext->ecxt_param_list_info = set->parameters;
}

void rule_set_fault(RuleSet* set, int64 rule, int sqlstate, const char* message) {
    RuleFault* fault =
        static_cast<RuleFault*>(MemoryContextAllocZero(set->context, sizeof(RuleFault)));
    fault->rule = rule;
    fault->sqlstate = sqlstate;
    fault->message = MemoryContextStrdup(set->context, message);
    fault->next = set->faults;
    set->faults = fault;
}

const RuleFault* rules_faults(const RuleSet* rules) {
    return rules->faults;
}

void rules_forget_faults(RuleSet* rules) {
    while (rules->faults != NULL) {
        RuleFault* fault = rules->faults;
        rules->faults = fault->next;
        pfree(fault->message);
        pfree(fault);
    }
}

// Is the error of a rule the error of who inserts the lead?
static bool raises_errors(const RuleSet* set) {
    return leadroute_on_rule_error == RULE_ERROR_ERROR && !set->rehearsal;
}

void rules_forbid_nesting(void) {
    if (running)
        ereport(ERROR, (errcode(ERRCODE_LR_EXPRESSION),
                        errmsg("rules cannot be tried by a function that a rule calls")));
}

// For expressions whose every function was checked already, so that nobody's rights matter.
ExprState* rule_state_trusted(Expr* expression) {
    Oid user;
    int security_context;
    GetUserIdAndSecContext(&user, &security_context);
    SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID, security_context | SECURITY_LOCAL_USERID_CHANGE);
    ExprState* state = ExecInitExpr(expression, NULL);
    SetUserIdAndSecContext(user, security_context);
    return state;
}

static bool evaluate(RuleSet* set, ExprState* state, MemoryContext query_memory, Datum* value) {
    bool isnull;
    set->econtext->ecxt_per_query_memory = query_memory;
    *value = ExecEvalExprSwitchContext(state, set->econtext, &isnull);
    return !isnull;
}

static bool period_holds(const RuleMatch* match, const RuleStep* step) {
    Datum value;
    return step->state == NULL ||
           (evaluate(match->set, step->state, match->set->context, &value) && DatumGetBool(value));
}

ExprState* rule_step_prepare(RuleSet* set, int number) {
    RuleStep* step = &set->steps[number];
    if (step->kind != CONDITION_BARE || step->broken || step->expression == NULL)
        return NULL;
    if (step->state == NULL) {
        MemoryContext caller =
            MemoryContextSwitchTo(step->context != NULL ? step->context : set->context);
        step->state = rule_state_trusted(step->expression);
        MemoryContextSwitchTo(caller);
    }
    return step->state;
}

// The rule that holds, or -1.
static int run_bare(RuleSet* set, int number) {
    const RuleStep* step = &set->steps[number];
    if (step->expression == NULL)
        return step->first;
    Datum value;
    if (!evaluate(set, rule_step_prepare(set, number), set->context, &value))
        return -1;
    if (step->chooses)
        return DatumGetInt32(value);
    return DatumGetBool(value) ? step->first : -1;
}

// The state to evaluate a step with. What runs as its author is made anew in each transaction:
// functions may keep things of a transaction in it, and rights are checked when it is made.
static ExprState* guarded_state(RuleSet* set, RuleExpression* step) {
    bool as_author = step->kind == CONDITION_AS_AUTHOR;
    if (step->state != NULL && (!as_author || step->transaction == local_transaction()))
        return step->state;
    step->state = NULL;
    if (step->context == NULL)
        step->context = AllocSetContextCreate(set->context, "leadroute rule", ALLOCSET_SMALL_SIZES);
    else
        MemoryContextReset(step->context);
    MemoryContext caller = MemoryContextSwitchTo(step->context);
    step->state =
        as_author ? ExecInitExpr(step->expression, NULL) : rule_state_trusted(step->expression);
    MemoryContextSwitchTo(caller);
    step->transaction = local_transaction();
    return step->state;
}

bool rule_expression_run(RuleSet* set, RuleExpression* expression, Datum* value) {
    if (expression->kind == CONDITION_BARE) {
        if (expression->state == NULL) {
            MemoryContext caller = MemoryContextSwitchTo(set->context);
            expression->state = rule_state_trusted(expression->expression);
            MemoryContextSwitchTo(caller);
        }
        return evaluate(set, expression->state, set->context, value);
    }
    AuthorScope scope;
    bool as_author = expression->kind == CONDITION_AS_AUTHOR;
    if (as_author)
        author_scope_begin(&scope, expression->author);
    ExprState* state = guarded_state(set, expression);
    bool present = evaluate(set, state, expression->context, value);
    if (as_author)
        author_scope_end(&scope);
    return present;
}

static void name_rule(void* argument) {
    errcontext("rule \"%s\"", static_cast<const Rule*>(argument)->name);
}

// Does the rule that matched get what it asks for of the lead?
static void settle_demand(RuleMatch* match) {
    if (match->matched < 0)
        return;
    const Rule* rule = match->set->rules[match->matched];
    if (rule->demand == NULL)
        return;
    // what needs point to lasts until the next match
    MemoryContext caller = MemoryContextSwitchTo(match->set->econtext->ecxt_per_tuple_memory);
    if (!rule_demand_meet(match->set, rule))
        match->matched = -1;
    MemoryContextSwitchTo(caller);
}

static void run_step(void* argument) {
    RuleMatch* match = static_cast<RuleMatch*>(argument);
    RuleStep* step = &match->set->steps[match->step];
    CHECK_FOR_INTERRUPTS();
    ErrorContextCallback context;
    context.callback = name_rule;
    context.arg = match->set->rules[step->first + step->count - 1];
    context.previous = error_context_stack;
    error_context_stack = &context;
    Datum value;
    if (step->kind == CONDITION_BARE)
        match->matched = run_bare(match->set, match->step);
    else if (rule_expression_run(match->set, step, &value) && DatumGetBool(value))
        match->matched = step->first;
    settle_demand(match);
    error_context_stack = context.previous;
}

// Of a step of several rules only the last can fail: by its demand.
static void note_failure(RuleMatch* match, const RuleStep* step, int sqlstate,
                         const char* message) {
    RuleFailures* failures = match->failures;
    int64 rule = match->set->rules[step->first + step->count - 1]->id;
    if (match->set->rehearsal)
        rule_set_fault(match->set, rule, sqlstate, message);
    if (failures->count < kMaxFailures)
        failures->failure[failures->count] = {rule, sqlstate};
    if (failures->count++ == 0)
        message_copy(failures->first_message, sizeof(failures->first_message), message);
}

static void begin_subtransaction(RuleMatch* match) {
    MemoryContext memory = CurrentMemoryContext;
    BeginInternalSubTransaction(NULL);
    MemoryContextSwitchTo(memory);
    match->in_subtransaction = true;
}

static void end_subtransaction(RuleMatch* match, bool commit) {
    if (!match->in_subtransaction)
        return;
    MemoryContext memory = CurrentMemoryContext;
    if (commit)
        ReleaseCurrentSubTransaction();
    else
        RollbackAndReleaseCurrentSubTransaction();
    MemoryContextSwitchTo(memory);
    CurrentResourceOwner = match->owner;
    match->in_subtransaction = false;
}

static void step_failed(RuleMatch* match, ErrorData* error) {
    RuleStep* step = &match->set->steps[match->step];
    // functions leave what they had begun behind in it
    step->state = NULL;
    RuleDemand* demand = match->set->rules[step->first + step->count - 1]->demand;
    if (demand != NULL)
        demand->need_expression.state = demand->key.state = NULL;
    match->matched = -1;
    end_subtransaction(match, false);
    if (raises_errors(match->set) || error_must_pass(error)) {
        running = false;
        ReThrowError(error);
    }
    note_failure(match, step, error->sqlerrcode, error->message);
}

// A rule that could not be compiled fails for each lead that comes to it.
static void broken_step(RuleMatch* match, const RuleStep* step) {
    if (!period_holds(match, step))
        return;
    if (raises_errors(match->set)) {
        end_subtransaction(match, false);
        running = false;
        ereport(ERROR, (errcode(step->sqlstate), errmsg("%s", step->message)));
    }
    note_failure(match, step, step->sqlstate, step->message);
}

// May trying this step raise an error?
static bool takes_guard(const RuleMatch* match) {
    RuleSet* set = match->set;
    const RuleStep* step = &set->steps[match->step];
    if (step->kind != CONDITION_BARE)
        return true;
    if (rule_demand_bare(set->rules[step->first + step->count - 1]))
        return false;
    int found = run_bare(set, match->step);
    return found >= 0 && !rule_demand_bare(set->rules[found]);
}

// Goes on from the first step that is not bare.
static void match_guarded(RuleMatch* match) {
    RuleSet* set = match->set;
    running = true;
    for (bool more = true; more && match->matched < 0;
         more = match->matched < 0 && next_step(match)) {
        if (!rule_key_admits(&set->keys[match->step], set->econtext->ecxt_scantuple))
            continue;
        RuleStep* step = &set->steps[match->step];
        if (step->broken) {
            broken_step(match, step);
            continue;
        }
        if (!match->in_subtransaction && !raises_errors(set) && takes_guard(match))
            begin_subtransaction(match);
        ErrorData* error = attempt(run_step, match);
        if (error != NULL)
            step_failed(match, error);
    }
    end_subtransaction(match, true);
    running = false;
}

struct Alone {
    RuleSet* set;
    RuleExpression* expression;
    Datum* value;
    bool present;
};

static void run_alone(void* argument) {
    Alone* alone = static_cast<Alone*>(argument);
    alone->present = rule_expression_run(alone->set, alone->expression, alone->value);
}

bool rule_expression_alone(RuleSet* set, RuleExpression* expression, TupleTableSlot* slot,
                           Datum* value, ErrorData** error) {
    rules_forbid_nesting();
    *error = NULL;
    ExprContext* econtext = set->econtext; // emptied by the next match: needs may point into it
    econtext->ecxt_scantuple = slot;
    if (expression->kind == CONDITION_BARE)
        return rule_expression_run(set, expression, value);

    RuleMatch match = {};
    match.set = set;
    match.owner = CurrentResourceOwner;
    MemoryContext caller = MemoryContextSwitchTo(econtext->ecxt_per_tuple_memory);
    running = true;
    if (!raises_errors(set))
        begin_subtransaction(&match);
    Alone alone = {set, expression, value, false};
    *error = attempt(run_alone, &alone);
    if (*error != NULL)
        expression->state = NULL; // functions leave what they had begun behind in it
    end_subtransaction(&match, *error == NULL);
    running = false;
    if (*error != NULL && (raises_errors(set) || error_must_pass(*error)))
        ReThrowError(*error);
    MemoryContextSwitchTo(caller);
    return alone.present;
}

const Rule* rules_match(RuleSet* set, TupleTableSlot* slot, TimestampTz now,
                        RuleFailures* failures) {
    rules_forbid_nesting();
    failures->count = 0;
    failures->first_message[0] = '\0';
    set->misses.count = 0;
    RuleMatch match = {};
    match.set = set;
    match.failures = failures;
    match.owner = CurrentResourceOwner;
    match.matched = -1;

    ExprContext* econtext = set->econtext;
    ResetExprContext(econtext);
    econtext->ecxt_scantuple = slot;
    set->parameters->params[0].value = TimestampTzGetDatum(now);

    match.step = -1;
    if (set->indexed != NULL)
        indexed_start(set, now);
    bool more = false;
    while (match.matched < 0 && (more = next_step(&match))) {
        if (!rule_key_admits(&set->keys[match.step], slot))
            continue;
        if (set->steps[match.step].broken || takes_guard(&match))
            break;
        match.matched = run_bare(set, match.step);
        settle_demand(&match);
    }
    if (match.matched < 0 && more) {
        MemoryContext caller = MemoryContextSwitchTo(econtext->ecxt_per_tuple_memory);
        match_guarded(&match);
        MemoryContextSwitchTo(caller);
    }
    const Rule* rule = match.matched < 0 ? NULL : set->rules[match.matched];
    if (rule == NULL || rule->demand == NULL) {
        ResetExprContext(econtext); // what needs were read from lasts until the next match
        if (rule != NULL)
            set->ask = {rule->pool, rule->rep, NULL};
    }
    return rule;
}

const RuleAsk* rules_asked(const RuleSet* set) {
    return &set->ask;
}

const RuleMisses* rules_misses(const RuleSet* set) {
    return &set->misses;
}

void rule_expression_try(RuleSet* set, void (*compile)(void*), void* argument, int* sqlstate,
                         const char** message) {
    if (leadroute_on_rule_error == RULE_ERROR_ERROR && !set->rehearsal) {
        compile(argument);
        return;
    }
    const ErrorData* error = attempt_apart(compile, argument);
    if (error == NULL)
        return;
    set->broken = true;
    *sqlstate = error->sqlerrcode;
    *message = MemoryContextStrdup(set->context, error->message);
}
