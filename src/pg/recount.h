// What the two halves of a recount share: rows (recount.cpp), credits (recount_credits.cpp).
#pragma once

#include "tenant.h"

AttrNumber record_column(Relation record, const char* name);
// What the row's turn cost beyond one.
int64 row_extra(TupleTableSlot* row, AttrNumber cost);
// True for a predicate that is `column IS NULL` (or IS NOT NULL) alone.
bool tests_null(List* predicate, AttrNumber column, NullTestType type);
bool newer_than_checkpoint(const Checkpoint* checkpoint, int64 ticket);
void note_pending(Recount* r, const PendingCharge* charge);

// Takes back the turns that were credited since the checkpoint, of members that are counted. After
// the rows.
void recount_credits(Recount* r, Relation record, int64 tenant);
