// What a transaction tells others at its end beside its turns (transaction.h): configuration that
// it changed, a record that it edited, reps whom it signed in or out, alerts and checkpoints.
// Called by the transaction's callbacks alone; after the commit nothing here allocates or raises.
#pragma once

#include "leadroute.h"

// 0A000 when others would not learn of something.
void notes_before_prepare(void);
void notes_commit(void);
// The notes of a subtransaction of this level are its parent's now, or void.
void notes_end(int level, bool committed);
void notes_forget(void);
