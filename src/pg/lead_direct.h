// Locking a lead and telling it its owner without the executor, where a statement would do no more:
// in a plain table that no trigger, rule or policy has a say in when the owner alone changes.
// Everywhere else claim_lead.cpp runs its statements.
#pragma once

#include "leadroute.h"

#include "lead_direct_check.h"

// Finds the lead by its primary key and locks it as FOR NO KEY UPDATE does. False: it takes the
// statement to do so. Otherwise *found says whether it is locked (with `skip` never waits), and
// *was is its owner as text, or NULL, in the memory context at hand.
bool direct_lock(DirectLead* lead, Datum key, int64 tenant, bool skip, bool* found, char** was);
// Reads the lead locked last into a slot of its table. False: it takes the statement.
bool direct_read(const DirectLead* lead, Relation relation, TupleTableSlot* row);
// Tells the lead locked last its owner; NULL: none. False, and nothing has happened: it takes the
// statement. Errors as those of an UPDATE. To be called with the rights that expressions of the
// table, in indexes and constraints, are evaluated with.
bool direct_update(DirectLead* lead, const Datum* owner);
// May it be done directly in this transaction, as far as can be told before?
bool direct_allowed(const DirectLead* lead);
