// What check_rules.cpp (reading, proofs, result) and check_rules_leads.cpp (the leads that are
// there) share. Everything else has no use for it.
#pragma once

#include "rule_set.h"

#include "lead_table.h"

constexpr int kMaxOthers = 8;

// Other rules that something was found with; count may exceed kMaxOthers: only the first are kept.
struct Others {
    int count;
    int rule[kMaxOthers];
};

// What the leads showed of a rule.
struct RuleSeen {
    bool won;              // it took a lead
    Others winners;        // rules that took leads which it held for, too
    const char* witness;   // the first of them
    Others overlaps;       // those of them with another target
    const char* overlap;   // the first lead of theirs
    const char* failed_on; // the first lead that it raised an error for
    const char* failure;
};

// An active rule.
struct CheckedRule {
    int64 id;
    char* name;
    char* condition;
    char* author;
    char* target;
    bool has_valid;
    bool valid_now;

    RuleExpression run; // the whole condition; its expression is NULL where it does not compile
    bool usable;        // it takes part in routing: compiled, with what it asks for besides
    const char* broken; // why it does not
    bool never;
    bool hides;
    RuleSeen seen;
};

struct RuleCheck {
    Relation lead;
    LeadTable* table;
    int64 tenant;
    int32 sample; // leads to look at, the latest first; 0: none
    RuleSet* set;
    CheckedRule* rules; // in the order they are tried
    int count;
    HTAB* ids; // of rules, to their numbers

    // of the leads
    int64 leads;      // looked at
    bool denied;      // the caller may not read them
    bool given_up;    // before the sample was
    const char* lost; // the first lead that no rule takes
};

// The rule with this id; -1: there is none.
int check_rule_number(const RuleCheck* check, int64 id);

// Looks at leads as whoever calls: what he may not read, or does not see, is not looked at.
// Conditions run as their authors, and no lead is changed.
void check_leads(RuleCheck* check);
