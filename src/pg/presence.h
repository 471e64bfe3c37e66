// Reps who sign in and out: what this transaction has written to leadroute.presence. It takes
// effect in shared memory at commit; the transaction itself routes by its own draft meanwhile.
#pragma once

#include "leadroute.h"

// This transaction has signed reps of the tenant in or out, also in a subtransaction that was
// rolled back.
bool presence_changed(int64 tenant);
bool presence_changed_any(void);
// Refuses to PREPARE such a transaction.
void presence_before_prepare(void);
// For the callbacks of transaction.cpp: no error, no allocation.
void presence_commit(void);
void presence_end_level(int level, bool committed);
void presence_forget(void);
