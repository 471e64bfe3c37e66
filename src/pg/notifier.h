// The background worker of the events: its life (notifier.cpp) and its rounds (notifier_round.cpp).
#pragma once

#include "events.h"

extern EventSlot* notifier_slot; // of the worker's database

// Sends what waits, and with `store` stores the cursor too. Returns how many events went; -1: it is
// to be called again at once. Errors leave everything as it was: call notifier_round_failed().
int notifier_round(bool store);
void notifier_round_failed(void); // after the transaction was aborted
bool notifier_work_waits(void);
// The cursor has not been stored for a while, or not since it moved.
bool notifier_store_due(bool leaving);
// The extension is not in this database any more.
bool notifier_is_orphan(void);
