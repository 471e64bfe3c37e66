// The backlog: leads that wait are given out when a rep becomes eligible.
//
// Whoever makes one eligible says so in shared memory at its commit; the database's background
// worker (notifier.cpp), or whoever calls sweep(), walks the queues (sql/backlog.sql). What is said
// may be said for nothing: a walk asks first whether there is somebody for the leads of a queue.
#pragma once

#include "leadroute.h"

#include "events.h"
#include "shared.h"

// What is wanted of a tenant, or of a database.
enum BacklogLevel : uint32 {
    BACKLOG_NONE,
    BACKLOG_REPS,  // somebody may take leads: ask for each queue
    BACKLOG_RULES, // leads may be for others by now: look at each
};

// In a transaction, before what follows: takes hold of the database's worker until the end of the
// transaction, and starts it if it does not run. Never fails.
void backlog_prepare(void);
// At commit, or at once for what is no transaction's: somebody may take leads of this tenant. Does
// not fail, wait or allocate. Without backlog_prepare() a worker that sleeps does not hear of it
// before it looks by itself.
void backlog_want(TenantSlot* slot);
// The same where leads have waited: a turn was given back, a rep signed in, an open lead ended.
void backlog_eased(TenantSlot* slot);
// The same for a tenant's changed configuration, which needs not be in memory.
void backlog_want_tenant(int64 tenant, bool all_tenants);
// This transaction changes rules: what it wants at commit is BACKLOG_RULES.
void backlog_rules_edited(void);
// Entries of a tenant's territories were edited, which outdates no configuration in memory: as for
// rules, and prepared for by itself.
void backlog_entries_edited(int64 tenant, bool all_tenants);
// A lead of this tenant waits; at commit those who have become eligible meanwhile are looked for
// again, since they could not see it.
void backlog_note_waiting(const TenantKey* key);
// An offer ends then; at commit the worker is told.
void backlog_note_offer(TimestampTz until);
void offer_ends_at(EventSlot* slot, TimestampTz until);
void backlog_commit(void); // no error
void backlog_forget(void); // after commit or abort
// This transaction is a step of a walk.
void backlog_walks(void);

// --- walking (backlog_walk.cpp): in a transaction, connected to SPI ---

// The state of a new walk, and of one that was walked on by a batch; NULL: it is at its end.
char* backlog_start(bool wanted);
char* backlog_step(const char* work, int most, int* given);
// Alerts where sweep() is late (sql/sweep_health.sql).
void sweep_watch(void);

// A walk stops before its end: the next one begins anew, with all leads of the database.
void backlog_unfinished(EventSlot* slot);

// --- the worker's part (backlog_worker.cpp) ---

bool backlog_wanted(void); // there is something to walk for
bool backlog_due(void);    // ... or to look for, and it is time
// How long to sleep, at most so many milliseconds: until the next offer ends.
long backlog_pause(long most);
bool backlog_offers_open(void); // one of them will end
// Walks one batch on, in a transaction of its own. After an error: backlog_failed().
void backlog_round(void);
void backlog_failed(void); // after the transaction was aborted
void backlog_leave(void);  // the worker exits; no error
