// Shared memory of all tenants: request, start, slots, eviction; see shared.h for the locking law.
#include "shared.h"
#include "backlog.h"
#include "claim_cursor.h"
#include "events.h"
#include "rule_shelf.h"
#include "transaction.h"

extern "C" {
#include "common/hashfn.h"
}

constexpr Size kBytesPerMember =
    sizeof(MemberState) + sizeof(core::Member) + sizeof(RepState) + 16 + 2 * sizeof(core::Window);
constexpr Size kBytesPerPool = sizeof(PoolState) + sizeof(TenantBlock) + 64;

const char* const kCounterNames[kCounters] = {"routed",      "refunded", "unmatched", "capped",
                                              "rule_errors", "rebuilds", "manual",    "waiting"};

Shared* shared;
static LWLockPadded* locks; // registry, zones, DSA, then one per slot
static HTAB* slot_map;
static TenantSlot* slots;
static BackendEntry* backends;
static void* area_place;
static dsa_area* area;
static shmem_request_hook_type previous_request;
static shmem_startup_hook_type previous_startup;

struct MapEntry {
    TenantKey key;
    int32 slot;
};

enum FixedLock { LOCK_REGISTRY, LOCK_ZONES, LOCK_AREA, LOCK_EVENTS, kFixedLocks };

static LWLock* fixed_lock(FixedLock which) {
    return &locks[which].lock;
}

static int backend_total(void) {
#if LR_PG17_GE
    return MaxBackends + NUM_AUXILIARY_PROCS;
#else
    return MaxBackends + 1;
#endif
}

static Size area_size(void) {
    // a quarter more than the entries themselves: size classes round up
    return mul_size(leadroute_max_members, kBytesPerMember * 5 / 4) +
           mul_size(leadroute_max_pools, kBytesPerPool * 2) + (Size)4 * 1024 * 1024;
}

static void request(void) {
    if (previous_request)
        previous_request();
    RequestAddinShmemSpace(add_size(
        add_size(MAXALIGN(sizeof(Shared)), zones_shmem_size()),
        add_size(mul_size(sizeof(TenantSlot), leadroute_max_pools),
                 add_size(mul_size(sizeof(BackendEntry), backend_total()),
                          add_size(hash_estimate_size(leadroute_max_pools, sizeof(MapEntry)),
                                   add_size(area_size(), 4096))))));
    RequestAddinShmemSpace(events_shmem_size(backend_total()));
    RequestAddinShmemSpace(claim_cursors_size());
    claim_cursors_request();
    RequestAddinShmemSpace(rule_shelf_size());
    rule_shelf_request();
    RequestNamedLWLockTranche("leadroute", kFixedLocks + leadroute_max_pools);
}

static void start_area(bool found) {
    area_place = ShmemInitStruct("leadroute blocks", area_size(), &found);
    if (found)
        return;
    dsa_area* made =
        dsa_create_in_place(area_place, area_size(), fixed_lock(LOCK_AREA)->tranche, NULL);
    dsa_pin(made);
    dsa_set_size_limit(made, area_size());
    dsa_detach(made);
}

static void startup(void) {
    if (previous_startup)
        previous_startup();
    // this may be a restart within the postmaster: nothing of before is valid
    shared = NULL;
    area = NULL;

    bool found;
    LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
    locks = GetNamedLWLockTranche("leadroute");
    Shared* made = static_cast<Shared*>(ShmemInitStruct("leadroute", sizeof(Shared), &found));
    if (!found) {
        pg_atomic_init_u64(&made->generation, 1);
        pg_atomic_init_u64(&made->attachments, 1);
        pg_atomic_init_u64(&made->incarnations, 1);
        made->slot_count = leadroute_max_pools;
        made->backend_count = backend_total();
    }
    ZoneList* zones =
        static_cast<ZoneList*>(ShmemInitStruct("leadroute zones", zones_shmem_size(), &found));
    zones_shmem_init(zones, fixed_lock(LOCK_ZONES), found);
    events_shmem_init(fixed_lock(LOCK_EVENTS), made->backend_count);
    claim_cursors_startup();
    rule_shelf_startup();

    slots = static_cast<TenantSlot*>(
        ShmemInitStruct("leadroute slots", sizeof(TenantSlot) * made->slot_count, &found));
    if (!found) {
        memset(static_cast<void*>(slots), 0, sizeof(TenantSlot) * made->slot_count);
        for (int i = 0; i < made->slot_count; i++) {
            pg_atomic_init_u64(&slots[i].wanted_generation, 0);
            pg_atomic_init_u64(&slots[i].rules_generation, 0);
            pg_atomic_init_u32(&slots[i].backlog, 0);
            pg_atomic_init_u32(&slots[i].backlog_said, 0);
        }
    }
    backends = static_cast<BackendEntry*>(
        ShmemInitStruct("leadroute backends", sizeof(BackendEntry) * made->backend_count, &found));
    if (!found)
        memset(backends, 0, sizeof(BackendEntry) * made->backend_count);

    HASHCTL control = {};
    control.keysize = sizeof(TenantKey);
    control.entrysize = sizeof(MapEntry);
    slot_map = ShmemInitHash("leadroute tenants", made->slot_count, made->slot_count, &control,
                             HASH_ELEM | HASH_BLOBS | HASH_FIXED_SIZE);
    start_area(false);
    LWLockRelease(AddinShmemInitLock);
    shared = made;
}

void shared_init(void) {
    previous_request = shmem_request_hook;
    shmem_request_hook = request;
    previous_startup = shmem_startup_hook;
    shmem_startup_hook = startup;
}

bool shared_ready(void) {
    return shared != NULL;
}

void shared_require(void) {
    if (!shared_ready())
        ereport(ERROR, (errcode(ERRCODE_LR_NOT_PRELOADED),
                        errmsg("leadroute is not loaded via shared_preload_libraries"),
                        errdetail("Turns and caps are counted in shared memory, which can only be "
                                  "reserved when the server starts."),
                        errhint("Add leadroute to shared_preload_libraries and restart the "
                                "server.")));
    if (RecoveryInProgress())
        ereport(ERROR, (errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
                        errmsg("leadroute keeps no counters during recovery"),
                        errhint("Ask the primary server.")));
}

TenantSlot* shared_slot(int i) {
    return &slots[i];
}

LWLock* slot_lock(const TenantSlot* slot) {
    return &locks[kFixedLocks + (slot - slots)].lock;
}

BackendEntry* backend_entry(int i) {
    return &backends[i];
}

BackendEntry* my_backend_entry(void) {
    return &backends[backend_index()];
}

void edits_begin(int64 tenant) {
    BackendEntry* entry = my_backend_entry();
    entry->edits_several = entry->edits && (entry->edits_several || entry->edited_tenant != tenant);
    pg_write_barrier();
    entry->edited_tenant = tenant;
    entry->edits_database = MyDatabaseId;
    pg_write_barrier();
    entry->edits = true;
    pg_memory_barrier();
}

void edits_end(void) {
    my_backend_entry()->edits = false;
}

bool edits_open(const TenantKey* key) {
    for (int i = 0; i < shared->backend_count; i++) {
        const BackendEntry* entry = &backends[i];
        if (entry->edits && entry->edits_database == key->database &&
            (entry->edits_several || entry->edited_tenant == key->tenant))
            return true;
    }
    return false;
}

static dsa_area* attached_area(void) {
    if (area == NULL) {
        MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
        area = dsa_attach_in_place(area_place, NULL);
        dsa_pin_mapping(area);
        MemoryContextSwitchTo(old);
    }
    return area;
}

void* chunk_address(dsa_pointer chunk) {
    return reinterpret_cast<void*>(TYPEALIGN(kBlockAlign, dsa_get_address(attached_area(), chunk)));
}

TimestampTz slot_clock(TenantSlot* slot, TimestampTz now) {
    constexpr TimestampTz kMoment = 10 * USECS_PER_SEC;
    if (now <= slot->last_pick && slot->last_pick - now < kMoment)
        now = slot->last_pick + 1;
    slot->last_pick = now;
    return now;
}

TenantBlock* slot_block(TenantSlot* slot) {
    return static_cast<TenantBlock*>(chunk_address(slot->chunk));
}

void chunk_free(dsa_pointer chunk) {
    if (DsaPointerIsValid(chunk))
        dsa_free(attached_area(), chunk);
}

// Takes everything away from a slot whose lock is held exclusively; the registry lock too.
static void slot_release(TenantSlot* slot, dsa_pointer* chunk, dsa_pointer* pending) {
    *chunk = slot->chunk;
    *pending = slot->pending;
    hash_search(slot_map, &slot->key, HASH_REMOVE, NULL);
    slot->used = false;
    slot->chunk = InvalidDsaPointer;
    slot->pending = InvalidDsaPointer;
    slot->pending_count = slot->pending_room = 0;
    slot->incarnation = 0;
    claim_cursors_drop(&slot->key);
}

static bool slot_idle(const TenantSlot* slot) {
    return slot->used && slot->in_flight == 0 && slot->pending_count == 0 &&
           slot->pending_promised == 0 && slot->checkpoint_by == 0;
}

// Evicts the tenant that was used least recently among the idle ones. False: none is idle.
static bool evict_one(const TenantSlot* keep) {
    dsa_pointer chunk = InvalidDsaPointer, pending = InvalidDsaPointer;
    bool evicted = false;
    LWLockAcquire(fixed_lock(LOCK_REGISTRY), LW_EXCLUSIVE);
    TenantSlot* oldest = NULL;
    for (int i = 0; i < shared->slot_count; i++) {
        TenantSlot* slot = &slots[i];
        if (slot != keep && slot_idle(slot) &&
            (oldest == NULL || slot->last_used < oldest->last_used))
            oldest = slot;
    }
    if (oldest != NULL) {
        LWLockAcquire(slot_lock(oldest), LW_EXCLUSIVE);
        if (slot_idle(oldest)) {
            slot_release(oldest, &chunk, &pending);
            evicted = true;
        }
        LWLockRelease(slot_lock(oldest));
    }
    LWLockRelease(fixed_lock(LOCK_REGISTRY));
    chunk_free(chunk);
    chunk_free(pending);
    // somebody took a turn in between: look again rather than give up
    return evicted || oldest != NULL;
}

// Makes room: evicts somebody, or settles prepared transactions that ended unnoticed, so that
// somebody is idle. False: nothing can be done.
static bool make_room(const TenantSlot* keep) {
    if (evict_one(keep))
        return true;
    bool settled = false;
    for (int i = 0; i < shared->slot_count; i++) {
        int32 before = slots[i].pending_count;
        if (!slots[i].used || before == 0)
            continue;
        pending_settle(&slots[i]);
        settled = settled || slots[i].pending_count < before;
    }
    return settled;
}

void memory_full(void) {
    ereport(ERROR, (errcode(ERRCODE_LR_MEMORY_FULL), errmsg("shared memory of leadroute is full"),
                    errdetail("Every tenant in memory has turns in flight or prepared."),
                    errhint("Raise leadroute.max_members or leadroute.max_pools and restart the "
                            "server.")));
}

dsa_pointer chunk_allocate(Size size, TenantSlot* keep) {
    for (;;) {
        dsa_pointer chunk =
            dsa_allocate_extended(attached_area(), size + kBlockAlign, DSA_ALLOC_NO_OOM);
        if (DsaPointerIsValid(chunk))
            return chunk;
        CHECK_FOR_INTERRUPTS();
        if (!make_room(keep))
            return InvalidDsaPointer;
    }
}

static int32 map_lookup(const TenantKey* key) {
    MapEntry* entry = static_cast<MapEntry*>(hash_search(slot_map, key, HASH_FIND, NULL));
    return entry == NULL ? -1 : entry->slot;
}

TenantSlot* slot_find(const TenantKey* key) {
    LWLockAcquire(fixed_lock(LOCK_REGISTRY), LW_SHARED);
    int32 found = map_lookup(key);
    LWLockRelease(fixed_lock(LOCK_REGISTRY));
    return found < 0 ? NULL : &slots[found];
}

static void slot_start(TenantSlot* slot, const TenantKey* key) {
    LWLockAcquire(slot_lock(slot), LW_EXCLUSIVE);
    slot->key = *key;
    slot->used = true;
    slot->incarnation = pg_atomic_add_fetch_u64(&shared->incarnations, 1);
    slot->build = 0;
    slot->generation = 0;
    slot->bounded = false;
    slot->presences = 0;
    slot->chunk = slot->pending = InvalidDsaPointer;
    slot->pending_count = slot->pending_room = slot->pending_promised = 0;
    slot->ticket = 0;
    slot->in_flight = 0;
    slot->since_checkpoint = 0;
    slot->checkpoint_wanted = false;
    slot->checkpoint_by = 0;
    slot->recount = false;
    slot->last_used = slot->last_pick = GetCurrentTimestamp();
    memset(slot->counter, 0, sizeof(slot->counter));
    memset(slot->recent, 0, sizeof(slot->recent));
    pg_atomic_write_u64(&slot->wanted_generation, pg_atomic_read_u64(&shared->generation));
    pg_atomic_write_u64(&slot->rules_generation, pg_atomic_read_u64(&shared->generation));
    LWLockRelease(slot_lock(slot));
}

// A free slot for a key that has none yet; -1: all are used. The registry lock is held.
static int32 slot_take(const TenantKey* key) {
    for (int32 i = 0; slots != NULL && i < shared->slot_count; i++) {
        if (slots[i].used)
            continue;
        MapEntry* entry = static_cast<MapEntry*>(hash_search(slot_map, key, HASH_ENTER_NULL, NULL));
        if (entry == NULL)
            return -1;
        entry->slot = i;
        slot_start(&slots[i], key);
        return i;
    }
    return -1;
}

TenantSlot* slot_for(const TenantKey* key) {
    for (;;) {
        TenantSlot* slot = slot_find(key);
        if (slot != NULL)
            return slot;
        LWLockAcquire(fixed_lock(LOCK_REGISTRY), LW_EXCLUSIVE);
        int32 found = map_lookup(key);
        if (found < 0)
            found = slot_take(key);
        LWLockRelease(fixed_lock(LOCK_REGISTRY));
        if (found >= 0)
            return shared_slot(found);
        if (!make_room(NULL))
            return NULL;
        CHECK_FOR_INTERRUPTS();
    }
}

void slots_outdate(Oid database, int64 tenant, bool all_tenants, bool rules_only) {
    uint64 generation = pg_atomic_add_fetch_u64(&shared->generation, 1);
    LWLockAcquire(fixed_lock(LOCK_REGISTRY), LW_SHARED);
    for (int i = 0; i < shared->slot_count; i++) {
        TenantSlot* slot = &slots[i];
        if (slot->used && slot->key.database == database &&
            (all_tenants || slot->key.tenant == tenant)) {
            if (!rules_only)
                pg_atomic_write_u64(&slot->wanted_generation, generation);
            pg_atomic_write_u64(&slot->rules_generation, generation);
        }
    }
    LWLockRelease(fixed_lock(LOCK_REGISTRY));
    backlog_want_tenant(tenant, all_tenants);
}

bool slot_forget(const TenantKey* key) {
    dsa_pointer chunk = InvalidDsaPointer, pending = InvalidDsaPointer;
    bool forgotten = false;
    LWLockAcquire(fixed_lock(LOCK_REGISTRY), LW_EXCLUSIVE);
    int32 found = map_lookup(key);
    if (found >= 0) {
        TenantSlot* slot = &slots[found];
        LWLockAcquire(slot_lock(slot), LW_EXCLUSIVE);
        if (slot_idle(slot)) {
            slot_release(slot, &chunk, &pending);
            forgotten = true;
        }
        LWLockRelease(slot_lock(slot));
    }
    LWLockRelease(fixed_lock(LOCK_REGISTRY));
    chunk_free(chunk);
    chunk_free(pending);
    return forgotten;
}

void slots_displace(const TenantKey* key) {
    for (int i = 0; i < shared->slot_count; i++) {
        TenantSlot* slot = &slots[i];
        TenantKey other = slot->key;
        if (!slot->used || other.database != key->database || other.tenant != key->tenant ||
            other.assignment == key->assignment || slot_forget(&other))
            continue;
        LWLockAcquire(slot_lock(slot), LW_EXCLUSIVE);
        if (slot->used && same_key(&slot->key, &other))
            slot->recount = true;
        LWLockRelease(slot_lock(slot));
    }
}
