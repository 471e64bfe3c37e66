// Compiling rules: what rules.cpp does for all of them at once and rule_indexed.cpp for those that
// leads come to.
#pragma once

#include "rule_set.h"

// A row of leadroute.rule, and what becomes of it.
struct RuleSource {
    Rule* rule; // in the set's memory context, like expression and message
    char* condition;
    char* author;
    bool has_valid;
    Datum valid;

    Oid role;
    ConditionClass kind;
    Expr* expression;
    bool left_out;
    bool broken;
    int sqlstate;
    char* message;
};

struct Compiler {
    RuleSet* set;
    MemoryContext kept; // where what is compiled stays
    Relation lead;
    RuleSource* sources;
    int count;
    ReservedColumns reserved;

    RuleSource* source; // at hand
    const LabelValue* value;
    RuleLabel* label;
};

struct RuleIds {
    const int64* id;
    int count;
};

// Parses, plans and classifies compiler->source; what is wrong with it is kept there and reported.
void rule_compile_source(Compiler* compiler);
// Adds the compiled source, whose rule is the set's latest, as a step of its own.
void rule_add_step(RuleSet* set, const RuleSource* source);
// Puts the source's period before its condition.
void rule_add_period(RuleSource* source);
// Plans a parsed condition as its author.
Expr* rule_plan(RuleSet* set, const Condition* condition);
// Reads the rules as this transaction sees them now: what others have committed, and its own
// changes, into the current memory context, and what is kept. `rule` 0: all that are active, of
// those in `among`, unless that is NULL. The lead table's own row is read in any case.
void rules_read(Compiler* compiler, int64 rule, const RuleIds* among);
