// Adding many rows to one of leadroute's own tables that nothing hangs on but who reads it: without
// triggers, foreign keys and checks, whose work is done by the caller.
#pragma once

#include "leadroute.h"

struct BulkRows {
    Relation relation;
    AttrNumber id; // identity column
    Oid sequence;  // that it takes its numbers from
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
