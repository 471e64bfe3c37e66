// A compiled set of rules from inside: what rules.cpp builds, rule_watch.cpp invalidates and
// rule_match.cpp runs. Everything else uses rules.h.
#pragma once

#include "rules.h"

#include "expression.h"
#include "rule_key.h"

extern "C" {
#include "nodes/params.h"
}

// What is evaluated at once: a run of bare rules as one CASE that gives the index of the first that
// holds, or a single rule: its condition, or of a bare one with a key what there is besides.
struct RuleStep {
    ConditionClass kind; // never CONDITION_NEVER
    bool broken;         // could not be compiled; expression is its period of validity or NULL
    int first;           // index in RuleSet.rules
    int count;
    Expr* expression; // NULL: there is nothing besides the key
    ExprState* state; // NULL: made when first needed
    Oid author;

    // Of rules that are not bare: the state is made in a context of its own that is emptied after
    // an error, as functions leave what they had begun behind in it.
    MemoryContext context;
    LocalTransactionId transaction; // that made the state, for what runs as its author

    int sqlstate; // why it is broken
    char* message;
};

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
    ExprContext* econtext;
    ParamListInfo parameters; // $1: the time, for periods of validity

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

// rule_match.cpp
void rule_set_fault(RuleSet* set, int64 rule, int sqlstate, const char* message);
void rule_set_prepare(RuleSet* set);
// Raises an error while a function of a rule runs: it may be of the very set at hand.
void rules_forbid_nesting(void);
ExprState* rule_state_trusted(Expr* expression);

// rules.cpp: what is wrong with one rule, in the current memory context; NULL: it compiles, or is
// gone.
char* rule_problem(Relation lead, int32 lead_table, int64 tenant, int64 rule);
