// Known contacts: sticky_on of a lead table says whose lead it is, and a repeat contact goes to the
// rep who has the contact.
//
// The record keeps a 64-bit hash of the expression's text, seeded for each lead table, so that it
// holds nothing of a person. The expression runs as a rule's condition does, with the rights of
// whoever wrote it.
#pragma once

#include "leadroute.h"

#include "rules.h"

struct StickyContact {
    bool on;      // the lead table has a sticky_on
    bool present; // the lead has a contact
    int64 hash;
    int sqlstate;      // of the error that it raised; 0: none
    char message[256]; // of that
};

// The contact of the lead in `slot`. An error of the expression is as one of a rule: raised, or
// given back. Compiling, freeing and matching the rules raise an error while it runs.
void sticky_contact(RuleSet* rules, TupleTableSlot* slot, StickyContact* contact);
// Assignments since then tell who knows a contact.
TimestampTz sticky_since(const RuleSet* rules, TimestampTz now);
