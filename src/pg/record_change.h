// Writing a new version of a row of the record: an episode that ends, or goes on with another next
// step. Which indexes it has to enter is asked of the server, once for each kind of change, and
// kept until the relation changes, as record_target.cpp does for new rows.
#pragma once

#include "leadroute.h"

enum class RowChange {
    waiting_ends, // an episode without a rep
    rep_ends,     // one of a rep
    goes_on       // one of a rep stays open; its next step is another
};

// *row is where it is then. False: another transaction has changed it meanwhile, nothing was done.
// No trigger fires.
bool record_change(Oid assignment, RowChange change, ItemPointer row, HeapTuple changed);
// The same of a row that is given by all its columns.
bool record_change_values(Oid assignment, RowChange change, ItemPointer row, const Datum* values,
                          const bool* nulls);

// The index of ended episodes by lead and number; open until the transaction ends.
Relation record_ended_index(Oid assignment, RowChange change);

// With the handles of record_target.cpp, which calls this.
void record_change_close(void);
void record_change_abandon(void);
