// A lead's score: what orders leads that wait with the same priority (lead_table.score_column).
#pragma once

#include "leadroute.h"

// Can a column of this type (a domain's base type) hold a score?
bool score_type(Oid type);
// The column of this name (NULL: none) and its base type; InvalidAttrNumber: there is none that
// can, and no lead has a score.
AttrNumber score_column_in(Relation relation, const char* name, Oid* type);
// The value of a column of such a type as a score; false: NaN, or not finite.
bool score_from(Oid type, Datum value, double* score);
