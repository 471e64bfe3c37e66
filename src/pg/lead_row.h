// A lead that does not exist, as the row that an insert would have at hand in its BEFORE triggers.
#pragma once

#include "leadroute.h"

// The row of `relation` with the values in `row` (a composite of the relation's type) for the
// columns that `given`, a JSON object, names; the others have their DEFAULT, evaluated as the
// present user, who can change nothing there. A number that a sequence would give is looked up and
// not taken. Generated columns are null, as they are in an insert at that point. Errors: LR005 for
// a default that cannot be evaluated so.
HeapTuple lead_row_complete(Relation relation, HeapTupleHeader row, Jsonb* given);
