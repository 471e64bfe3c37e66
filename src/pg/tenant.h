// A tenant's pools and reps, loaded and up to date: configuration from the tables, counts from the
// record. The tables are the truth; a slot's block is a cache of them that can be made again at any
// time from the latest checkpoint and the rows written since.
#pragma once

#include "leadroute.h"

#include "shared.h"
#include "skills.h"
#include "sla.h"

// The slot with a block of the committed configuration, loading it first where needed. Between this
// and taking the slot's lock it may be evicted or outdated: check with tenant_usable() under the
// lock, and ask again. NULL: shared memory is full of tenants with turns in flight.
TenantSlot* tenant_ready(const TenantKey* key);
bool tenant_usable(const TenantSlot* slot, const TenantKey* key);

// A copy of the slot's block in the current memory context; NULL: it has none.
TenantBlock* tenant_copy(const TenantKey* key, TenantSlot* slot);
// The same of the slot that tenant_ready() gives; NULL: shared memory is full.
TenantBlock* tenant_ready_copy(const TenantKey* key, TenantSlot** slot);

// This transaction's private block, for one that changed the tenant's configuration itself.
struct Draft {
    TenantBlock* block;
    uint64 build; // of the slot's block when all reps and members of this one were known to it
    bool full;    // shared memory has no room to make them known: nothing may be charged
};
const Draft* tenant_draft(const TenantKey* key);
void tenant_drafts_drop(void);

// --- pieces of it ---

// Configuration as rows (config.cpp), sorted by id; members by (pool id, rep id).
struct RepRow {
    int64 id;
    int32 zone;
    int32 cap;
    int32 open_cap;
    bool paused;
    bool has_ref;
    bool ref_is_uuid;
    int32 sla; // policy's id, 0: none
};
struct PoolRow {
    int32 id;
    int32 overflow; // id, 0: none
    core::Order order;
    PoolMode mode;
    int64 offer_window; // microseconds, 0: none
    int32 lanes;
    core::CatchUp catch_up;
    double catch_up_limit;
    bool presence_required;
    bool by_value;
    TimestampTz value_since; // DT_NOBEGIN: always, or never
    int32 sla;               // policy's id, 0: none
};
struct MemberRow {
    int32 pool; // id
    int64 rep;
    double weight;
    int32 cap;
    bool paused;
    int32 tier;
    double longitude; // of the rep, NaN: not known
    double latitude;
    int32 lane; // of its pool
};
struct Availability; // availability.h
struct Configuration {
    SkillRows skills;
    SlaRows sla;
    PoolRow* pools;
    RepRow* reps;
    MemberRow* members;
    int32 pool_count;
    int32 rep_count;
    int32 member_count;
    const Availability* availability;
};
// Reads the tenant's configuration as this transaction sees it now (latest snapshot, own changes
// included), into the current memory context.
void configuration_read(int64 tenant, Configuration* configuration);
// The same with hours and absences for another time than the present.
struct Horizon;
void configuration_read_for(int64 tenant, const Horizon* horizon, Configuration* configuration);
// A block of it in the current memory context, in which nothing was ever given out. It has room to
// put all aside that `replaced` knows, unless that is NULL, and the configuration does not.
TenantBlock* configuration_block(const Configuration* configuration, TenantBlock* replaced);

// What a checkpoint says of one member.
struct CheckpointMember {
    int32 pool;
    int64 rep;
    int64 received;
    double deficit;
    double start; // start tag, in virtual time
    int64 extra;  // what the leads received cost beyond one turn each
};
struct Checkpoint {
    bool found; // false: count the whole record; ticket is that of what says so, or 0
    int64 ticket;
    TimestampTz since;
    int64* in_flight; // tickets, sorted
    int32 in_flight_count;
    CheckpointMember* members; // sorted by (pool, rep)
    int32 member_count;
};
void checkpoint_read(int64 tenant, Checkpoint* checkpoint);
// Writes one if it is due and nobody else is at it. Runs SQL.
void checkpoint_write_if_due(TenantSlot* slot, const TenantKey* key);
bool checkpoint_due(const TenantSlot* slot);
// The record is edited by this transaction in a way that memory does not know of: if it commits,
// all checkpoints of the tenant are void, also those that others are writing. Call record_edited()
// before. Runs SQL; waits for nobody.
void checkpoint_bar(const TenantKey* key);
// Deletes the checkpoints of all tenants. Runs SQL.
void checkpoints_drop(void);

// Counts the record's rows of reps into a block (recount.cpp). `wanted` tells which reps and
// members to count: those whose mark is set.
struct Recount {
    TenantBlock* block;
    const Checkpoint* checkpoint;
    bool* rep_wanted;    // by rep index; its rows of every pool are read
    bool* member_wanted; // by member index
    bool* member_full;   // by member index: unknown to the checkpoint, so all its rows count
    bool full;           // all of history, not only what is newer than the checkpoint
    bool open_only;      // the open leads of the reps, nothing else
    bool keep_pending;   // note rows in progress (a private block has no use for that)
    int64 max_ticket;
    int64* last_ticket; // by member: of its latest row
    TimestampTz* last_at;
    double* last_deficit;
    bool* open_capped; // by rep index: at capacity with the latest lead
    double* credited;  // by member: what was credited back since its latest row
    double* last_tag;  // NaN: no row newer than the checkpoint has one
    PendingCharge* pending;
    int32 pending_count;
    int32 pending_room;
};
void recount_rows(Recount* recount, const TenantKey* key);
// Days this far back are counted for the caps, whatever the checkpoint says.
constexpr int kCapDays = 3;
