// Adding many rows to one of leadroute's own tables that has no trigger but the one that tells of
// its events, and no foreign key; what that trigger and the table's checks would do is the caller's
// part. Where somebody has put triggers of his own on it, the rows are inserted as by SQL.
#pragma once

#include "leadroute.h"

struct BulkRows {
    Relation relation;
    AttrNumber id; // identity column
    Oid sequence;  // that it takes its numbers from
    bool fires;    // its triggers do; they tell of the events, too
    int count, room;
    TupleTableSlot** slots;
};

// A table of the schema leadroute with the columns tenant and id, and room for so many rows.
void bulk_begin(BulkRows* rows, const char* table, int room);
// Adds a row; `columns` names those with a value, the others are null. Gives its id.
struct BulkValue {
    AttrNumber column;
    Datum value;
};
int64 bulk_add(BulkRows* rows, const BulkValue* values, int count);
AttrNumber bulk_column(const BulkRows* rows, const char* name);
// Writes them, and closes the table.
void bulk_end(BulkRows* rows);
