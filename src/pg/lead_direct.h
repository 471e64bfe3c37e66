// Locking a lead and telling it its owner without the executor, where a statement would do no more:
// in a plain table that no trigger, rule or policy has a say in when the owner alone changes.
// Everywhere else claim_lead.cpp runs its statements.
#pragma once

#include "leadroute.h"

#include "lead_direct_check.h"
#include "lead_scope.h"

extern "C" {
#include "nodes/execnodes.h"
}

// A table that is open for it: for one lead, or for many of one transaction. Belongs to the
// resource owner at hand.
struct DirectWork {
    MemoryContext context; // that it was opened in
    Relation relation;
    Relation index;         // of its primary key
    IndexScanDesc scan;     // by it
    TupleTableSlot* row;    // the lead locked last
    TupleTableSlot* now;    // the same, where it has changed when it is updated
    TupleTableSlot* change; // its new version
    EState* executor;       // made when first needed, with the table's indexes
    ResultRelInfo* result;
};

// May it be done directly in this transaction, as far as can be told before?
bool direct_allowed(const DirectLead* lead);
// Opens the table; false: it takes statements.
bool direct_open(const DirectLead* lead, DirectWork* work);
void direct_close(DirectWork* work);

// Finds the lead by its primary key and locks it as FOR NO KEY UPDATE does. False: there is none,
// or with `skip`, which never waits, somebody else has it locked. Else *was is its owner as text,
// or NULL, in the memory context at hand, and the lead is in work->row.
bool direct_lock(const DirectLead* lead, DirectWork* work, Datum key, int64 tenant, bool skip,
                 char** was);
// Tells the lead at `row`, which is locked, its owner; NULL: none. False, and nothing has happened:
// it takes the statement. Errors as those of an UPDATE. Expressions of the table, in indexes and
// constraints, are evaluated with the rights given.
bool direct_update(const DirectLead* lead, DirectWork* work, const LeadRights* rights,
                   ItemPointer row, const Datum* owner);
