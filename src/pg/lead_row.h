// Leads as composite values: one that is there, and one that does not exist, as the row that an
// insert would have at hand in its BEFORE triggers.
#pragma once

#include "leadroute.h"

// Raises 42804 unless the value is of the relation's row type.
void lead_row_check(Relation relation, HeapTupleHeader row);

// A slot with the value, in the current memory context; the type is checked.
TupleTableSlot* lead_row_slot(Relation relation, HeapTupleHeader row);

// The row of `relation` with the values in `row` (a composite of the relation's type) for the
// columns that `given`, a JSON object, names; the others have their DEFAULT, evaluated as the
// present user, who can change nothing there. A number that a sequence would give is looked up and
// not taken. Generated columns are null, as they are in an insert at that point. Errors: LR005 for
// a default that cannot be evaluated so.
HeapTuple lead_row_complete(Relation relation, HeapTupleHeader row, Jsonb* given);
