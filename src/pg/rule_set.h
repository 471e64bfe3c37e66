// A compiled set of rules from inside: what rules.cpp builds, rule_watch.cpp invalidates and
// rule_match.cpp runs. Everything else uses rules.h.
#pragma once

#include "rules.h"

#include "expression.h"
#include "rule_key.h"
#include "rule_label.h"

extern "C" {
#include "nodes/params.h"
}

// An expression of a rule, and how it is evaluated.
struct RuleExpression {
    ConditionClass kind; // never CONDITION_NEVER
    Oid author;
    Expr* expression;
    ExprState* state; // NULL: made when first needed

    // Of what is not bare: the state is made in a context of its own that is emptied after an
    // error, as functions leave what they had begun behind in it.
    MemoryContext context;
    LocalTransactionId transaction; // that made the state, for what runs as its author
};

// What a rule asks of a lead besides its condition (rule_demand.cpp).
struct RuleDemand {
    const char* needs_text;
    bool has_needs;
    bool fixed; // the same needs for every lead
    Needs needs;
    RuleExpression need_expression;

    const char* territory; // name, NULL: the rule names its pool or rep itself
    bool prefix;
    const char* key_text;
    const char* key_author;
    RuleExpression key;
};

// The lead table's sticky_on (sticky.cpp).
struct Sticky {
    const char* table; // name
    const char* text;
    const char* author;
    Interval window;
    uint64 seed; // of its contacts' hashes
    RuleExpression expression;
    int sqlstate; // 0: it compiles
    const char* message;
};

// The lead table's value_expression (lead_value.cpp).
struct LeadValue {
    const char* table; // name
    const char* text;
    const char* author;
    RuleExpression expression;
    int sqlstate; // 0: it compiles
    const char* message;
};

// What is evaluated at once: a run of bare rules as one CASE that gives the index of the first that
// holds, or a single rule: its condition, or of a bare one with a key what there is besides.
// Its expression is NULL where there is nothing besides the key. A rule with a demand is the last
// of its step, so that the next one is tried from the next step on.
struct RuleStep : RuleExpression {
    bool broken;  // could not be compiled; expression is its period of validity or NULL
    bool chooses; // its expression gives the index of the rule
    int first;    // index in RuleSet.rules
    int count;
    int sqlstate; // why it is broken
    char* message;
};

struct IndexedRules;

// What one author's rules need: looked at again when rights may have changed.
struct AuthorNeeds {
    char* name;
    Oid role;
    Bitmapset* columns;
    List* functions;
};

struct RuleSet {
    MemoryContext context;
    int32 lead_table;
    int64 tenant;

    Rule** rules; // in the order they are tried
    int rule_count;
    RuleStep* steps;
    RuleKey* keys; // of the steps: which leads one is not evaluated for
    int step_count;
    ReservedColumns reserved; // of a set that is indexed
    IndexedRules* indexed;    // NULL: every step is tried; otherwise rule_indexed.cpp says which
    ExprContext* econtext;
    ParamListInfo parameters; // $1: the time, for periods of validity

    Sticky* sticky;   // NULL: the lead table has none
    LeadValue* value; // likewise

    // of the latest match
    RuleAsk ask;
    RuleMisses misses;
    HTAB* pools; // ids by name, of entries of territories; NULL: none was needed yet

    // rule_watch.cpp
    RuleSet* next; // in the list of all sets
    RuleSet* previous;
    Oid lead;
    TupleDesc columns;
    List* relations;      // OIDs: the lead and the tables it is a partition of, and others
    List* authors;        // AuthorNeeds
    HTAB* objects;        // what else the rules depend on
    bool user_objects;    // some of it is not built in
    bool broken;          // a rule was left out or does not compile: any change may mend it
    bool stale;           // something changed for certain
    mutable bool suspect; // the lead's columns or somebody's rights may have changed

    // A compile for one rule only reports its first problem here instead of raising alerts.
    bool report_only;
    char* problem;

    // A rehearsal keeps all that goes wrong.
    bool rehearsal;
    RuleFault* faults;
};

// rule_watch.cpp
void rule_set_watch(RuleSet* set, Relation lead);
void rule_set_depend_object(RuleSet* set, int cache, uint32 hash);
void rule_set_depend_condition(RuleSet* set, const char* author, const Condition* condition);

// Do the authors still have the rights that their rules need?
bool rule_set_allowed(const RuleSet* set, Relation lead);

// rule_indexed.cpp, for a set that is indexed
// Begins a match of the lead in the set's context.
void indexed_start(RuleSet* set, TimestampTz now);
// The next step that the lead has to be tried with, made ready; -1: there is none. Raises an error
// for what must be passed on alone.
int indexed_next(RuleSet* set);

// rule_match.cpp
void rule_set_fault(RuleSet* set, int64 rule, int sqlstate, const char* message);
void rule_set_prepare(RuleSet* set);
// Raises an error while a function of a rule runs: it may be of the very set at hand.
void rules_forbid_nesting(void);
ExprState* rule_state_trusted(Expr* expression);
// The state that a bare step is evaluated with, made if need be; NULL: there is nothing to
// evaluate, or the step is not bare.
ExprState* rule_step_prepare(RuleSet* set, int number);

// Evaluates in the way the expression's class takes, in the memory of the match; false: NULL.
bool rule_expression_run(RuleSet* set, RuleExpression* expression, Datum* value);
// Evaluates an expression over the lead in `slot` by itself, in the memory of the match, with an
// error rolled back and given in *error; false: NULL, or the error. Raises what rules_match() does.
bool rule_expression_alone(RuleSet* set, RuleExpression* expression, TupleTableSlot* slot,
                           Datum* value, ErrorData** error);
// Keeps the planned expression in the set, with what it depends on registered; rules.cpp.
void rule_expression_keep(RuleSet* set, const Condition* parsed, const char* author,
                          RuleExpression* kept);
// Calls compile(argument) for an expression of the lead table's. What it raises is kept in the set,
// to be told of each lead; with leadroute.on_rule_error = error it is raised.
void rule_expression_try(RuleSet* set, void (*compile)(void*), void* argument, int* sqlstate,
                         const char** message);

// rule_demand.cpp: what a row of SPI_tuptable says of needs and of the territory's name, key, match
// and author, in columns from `first` on; NULL: there is neither.
RuleDemand* rule_demand_read(RuleSet* set, HeapTuple row, int first);
// Raises what is wrong with it; otherwise the rule's demand is ready.
void rule_demand_compile(RuleSet* set, Relation lead, Rule* rule, const char* author, Oid role);
// Raises what is wrong with needs that are the same for every lead.
void needs_check_fixed(const Condition* parsed);
// False: something in it may raise an error, so it takes a subtransaction.
bool rule_demand_bare(const Rule* rule);
// Fills in the set's ask. False: the territory does not know the lead's key, which is noted.
bool rule_demand_meet(RuleSet* set, const Rule* rule);

// sticky.cpp: what a row of SPI_tuptable says of sticky_on, its author, sticky_window, event_salt
// and the lead table's name, in columns from `first` on.
void sticky_read(RuleSet* set, HeapTuple row, int first);
// Without its author it is left out, with an alert; what does not compile fails for each lead.
void sticky_compile(RuleSet* set, Relation lead);

// rules.cpp: what is wrong with one rule, in the current memory context; NULL: it compiles, or is
// gone.
char* rule_problem(Relation lead, int32 lead_table, int64 tenant, int64 rule);
