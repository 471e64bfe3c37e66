// Rules of one lead relation for one tenant, compiled for this session.
//
// A rule's condition is parsed as a trigger's WHEN is, planned by the server's expression planner,
// checked against its author's rights and kept until something it depends on changes. Runs of rules
// that cannot raise an error (leakproof and other known built-in operators) are evaluated as one
// CASE expression; the others one by one inside an internal subtransaction, as their author, who
// can change nothing there, unless they call immutable built-in functions alone.
#pragma once

#include "leadroute.h"

#include "skills.h"

struct RuleLabel {
    AttrNumber attribute; // column of the lead relation with the label's name
    Datum value;
    bool isnull;
};

struct RuleDemand;

// One active rule that compiled. Lives in its RuleSet's memory context.
struct Rule {
    int64 id;
    int32 position;
    int32 version; // of its row, as config_change has it
    char* name;
    int32 pool;          // target pool's id, 0: the target is a rep or territory
    int64 rep;           // target rep, 0: the target is a pool or territory
    int32 overflow_pool; // 0: none
    int32 sla;           // policy's id, 0: none
    RuleDemand* demand;  // what it asks of the lead besides its condition; NULL: nothing
    bool has_label;
    Datum label; // jsonb, for the record
    int label_count;
    RuleLabel* labels; // for the lead's own columns
};

// What failed besides rules, in the place of a rule's id.
constexpr int64 kStickyFailure = 0;
constexpr int64 kValueFailure = -1;

struct RuleFailure {
    int64 rule;
    int sqlstate; // as MAKE_SQLSTATE packs it
};

constexpr int kMaxFailures = 8;

// What went wrong while one lead was matched; count may exceed kMaxFailures.
struct RuleFailures {
    int count;
    RuleFailure failure[kMaxFailures];
    char first_message[256]; // of the first failure, no row data of leads beyond what the server
                             // says
};

// Rules that matched but for their territory, in which the lead's key was not found. count may
// exceed kMaxFailures: only the first are kept.
struct RuleMisses {
    int count;
    int64 rule[kMaxFailures];
};

// What the rule that matched asks for, for the lead at hand; valid until the next match.
struct RuleAsk {
    int32 pool; // as in the rule, or the territory's
    int64 rep;
    const Needs* needs; // NULL: none
};

struct RuleSet;

// Reads and compiles the active rules of (lead table id, tenant) for the relation at hand (a
// partition has its own column layout), by SPI with the latest snapshot as the owner of
// leadroute's tables. Rules that no longer compile, or whose author may no longer read a column,
// fail for each lead that comes to them; those whose author is gone are left out; one alert each
// (see raise_alert). Returns a set in a context of its own below `parent`; free it with
// rules_free(). Errors: none for a bad rule, unless leadroute.on_rule_error is `error`.
//
// Compiling, matching and freeing raise an error while a function that a rule calls runs.
RuleSet* rules_compile(Relation lead, int32 lead_table, int64 tenant, MemoryContext parent);
void rules_free(RuleSet* rules);

// The same for somebody who only asks: raises neither alerts nor, while compiling and matching, an
// error of a rule, and keeps what went wrong instead. Labels are left out.
RuleSet* rules_rehearse(Relation lead, int32 lead_table, int64 tenant);

// What was wrong with a rule of a rehearsed set, or raised by it, in the set's memory context.
struct RuleFault {
    RuleFault* next;
    int64 rule;
    int sqlstate; // 0: the rule is inactive, its author does not exist
    bool missed;  // the rule is all right, but its territory does not know the lead's key
    char* message;
};
const RuleFault* rules_faults(const RuleSet* rules);
// Frees them, where one rehearsed set meets many leads.
void rules_forget_faults(RuleSet* rules);

// False when an object that a condition depends on has changed since: compile anew.
bool rules_valid(const RuleSet* rules);

// The first rule that matches the lead in `slot` (virtual or heap tuple of the relation's layout)
// at `now`, or NULL. A rule that raises an error is skipped and noted in *failures; cancel,
// shutdown, out of memory and class 40 are passed on; with leadroute.on_rule_error = error all are.
// One whose territory does not know the lead's key is passed over, too; rules_misses() tells which.
const Rule* rules_match(RuleSet* rules, TupleTableSlot* slot, TimestampTz now,
                        RuleFailures* failures);
// Of the latest rules_match() of this set: what the rule that it gave asks for, and which rules it
// passed over.
const RuleAsk* rules_asked(const RuleSet* rules);
const RuleMisses* rules_misses(const RuleSet* rules);
