// Shared memory: a fixed number of slots, one for each tenant in use, over a DSA area of fixed size
// that holds their blocks.
//
// Locks, taken in this order and never two slots at once:
//   registry   guards the map from key to slot, the free list and the choice of whom to evict
//   slot lock  guards everything in a slot but its atomics, and its block; held for a pick (well
//              under a microsecond) and for the swap of a block; nothing under it raises, allocates
//              or waits
// Loading a slot (reading tables) holds a heavyweight lock instead, so that waiting for it can be
// cancelled and takes part in deadlock detection.
#pragma once

#include "leadroute.h"

#include "block.h"

// The physical record a lead belongs to: whose memory this is. A copy of the database, a re-created
// extension or a moved shard has another key, so it never meets a stale counter.
struct TenantKey {
    Oid database;
    Oid assignment; // relation that holds the records, see placement.h
    int64 tenant;
};

// Turns that a transaction other than the present ones has taken (or is to return) and not settled:
// one prepared, or one found in progress while loading.
struct PendingCharge {
    TransactionId xid;
    TimestampTz since; // no row of it is older
    int32 pool;
    int64 ticket;
    int64 rep;
    DateADT day;
    int32 turns;
    core::Effect effect;
    int64 extra = 0; // what they cost beyond one turn each
};

enum Counter {
    COUNT_ROUTED,
    COUNT_REFUNDED,
    COUNT_UNMATCHED,
    COUNT_CAPPED,
    COUNT_RULE_ERRORS,
    COUNT_REBUILDS,
    COUNT_MANUAL,
    COUNT_WAITING,
    kCounters
};
extern const char* const kCounterNames[kCounters];

// An alert that a committed transaction raised not long ago.
struct RecentAlert {
    uint64 key; // hash of kind, rule and pool; 0: none
    TimestampTz raised;
};
constexpr int kRecentAlerts = 16;

// Sign-ins and sign-outs that a slot keeps: whoever is loading it may have read the table before
// they were committed.
constexpr int kRecentPresences = 16;

struct TenantSlot {
    TenantKey key;
    bool used;
    uint64 incarnation; // of this stay in memory; what an older one charged is not settled here
    uint64 build;       // of the present block
    uint64 generation;  // of the configuration that the block was built from
    pg_atomic_uint64 wanted_generation; // of the committed configuration, as far as blocks have it
    pg_atomic_uint64 rules_generation;  // of all of it, rules included
    pg_atomic_uint32 backlog;           // BacklogLevel: wanted, not walked yet
    pg_atomic_uint32 backlog_said;      // how often it was
    dsa_pointer chunk;                  // the block, InvalidDsaPointer: not loaded
    dsa_pointer pending;
    int32 pending_count;
    int32 pending_room;
    int32 pending_promised; // room promised to transactions that are preparing
    int64 ticket;           // last one given out
    int64 in_flight;        // turns charged and not settled, pending ones included
    int64 since_checkpoint; // picks
    bool checkpoint_wanted;
    int checkpoint_by; // pid of who is writing one, 0: nobody
    bool recount;      // the record was edited by hand: load anew once nothing is in flight
    TimestampTz last_used;
    TimestampTz last_pick; // or end of an open lead; see slot_clock()
    int64 counter[kCounters];
    RecentAlert recent[kRecentAlerts];
    uint64 presences; // sign-ins and sign-outs committed, the latest of which are kept
    RepPresence recent_presence[kRecentPresences];
    bool bounded; // the block is good for the horizon that it says
    TimestampTz horizon_from, horizon_until;
};

// What a backend has in flight: for the view in_flight, and for checkpoints, which must tell the
// settled from the others. Written by its backend under the slot lock of the tenant concerned.
constexpr int kBackendTickets = 16;
struct BackendEntry {
    int pid;
    Oid database;
    TimestampTz since;
    int64 reservations;
    bool overflow; // more tenants than there is room for: no checkpoints meanwhile
    bool edits;    // the record of edited_tenant, or of several; set without a lock
    bool edits_several;
    Oid edits_database;
    int64 edited_tenant;
    int count;
    struct {
        TenantSlot* slot;
        uint64 incarnation;
        int64 ticket;
    } tickets[kBackendTickets];
};

struct Shared {
    pg_atomic_uint64 generation;   // configuration commits, all databases
    pg_atomic_uint64 attachments;  // commits that changed leadroute.lead_table
    pg_atomic_uint64 incarnations; // source of TenantSlot::incarnation and build
    int slot_count;
    int backend_count;
};

extern Shared* shared;

void shared_init(void);    // from _PG_init: reserves the memory
bool shared_ready(void);   // false: not preloaded
void shared_require(void); // LR001 unless ready

TenantSlot* shared_slot(int i);
LWLock* slot_lock(const TenantSlot* slot);
BackendEntry* backend_entry(int i);
BackendEntry* my_backend_entry(void);

// This backend's transaction edits the tenant's record by hand, until edits_end(): memory, which
// does not know of it yet, is no source of checkpoints meanwhile. edits_open(): does any backend?
void edits_begin(int64 tenant);
void edits_end(void);
bool edits_open(const TenantKey* key);

// The slot of this key, made when there is none; a new one has no block. Evicts idle tenants when
// full; NULL when no tenant can be evicted: the caller lets its lead wait, or says memory_full().
TenantSlot* slot_for(const TenantKey* key);
// The same without making one: NULL.
TenantSlot* slot_find(const TenantKey* key);
// Marks the configuration of a tenant (of all in this database with all_tenants) as changed; with
// rules_only in nothing that a block has. No error, for callbacks.
void slots_outdate(Oid database, int64 tenant, bool all_tenants, bool rules_only);
// A tenant's record is in one place at a time: what is known of it under other keys is stale. It is
// forgotten, or counted anew once nothing of it is in flight.
void slots_displace(const TenantKey* key);
// Frees the slot's block and the slot itself if nothing is in flight; returns whether it did.
bool slot_forget(const TenantKey* key);

// The time of a pick, or of the end of an open lead: the clock's, but never before that of an
// earlier one, so that the record tells their order. The slot's lock is held. (A clock that was set
// back by more than a moment is followed.)
TimestampTz slot_clock(TenantSlot* slot, TimestampTz now);

// The block of a slot; its lock is held and its chunk valid.
TenantBlock* slot_block(TenantSlot* slot);
// Memory for a block; evicts idle tenants other than `keep` when there is none. Invalid: full.
dsa_pointer chunk_allocate(Size size, TenantSlot* keep);
void chunk_free(dsa_pointer chunk);
void* chunk_address(dsa_pointer chunk);

[[noreturn]] void memory_full(void); // LR013

inline bool same_key(const TenantKey* a, const TenantKey* b) {
    return a->database == b->database && a->assignment == b->assignment && a->tenant == b->tenant;
}
