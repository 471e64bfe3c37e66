// Loading a tenant into shared memory, and bringing a loaded one up to date with its configuration.
//
// A tenant that is not loaded has nothing in flight here, so its counts are those of the record.
// One that is loaded keeps its counts, turns in flight included; only members and reps that are new
// to it are counted from the record.
#include "tenant.h"
#include "availability.h"
#include "rebuild.h"
#include "transaction.h"

bool tenant_usable(const TenantSlot* slot, const TenantKey* key) {
    return slot->used && same_key(&slot->key, key) && DsaPointerIsValid(slot->chunk);
}

static bool up_to_date(TenantSlot* slot, const TenantKey* key) {
    return tenant_usable(slot, key) &&
           slot->generation == pg_atomic_read_u64(&slot->wanted_generation) &&
           !(slot->recount && slot->in_flight == 0) &&
           (!slot->bounded ||
            within(GetCurrentTimestamp(), slot->horizon_from, slot->horizon_until));
}

TenantBlock* tenant_copy(const TenantKey* key, TenantSlot* slot) {
    TenantBlock* copy = NULL;
    Size room = 0;
    char* memory = NULL;
    for (;;) {
        LWLockAcquire(slot_lock(slot), LW_SHARED);
        Size size = tenant_usable(slot, key) ? slot_block(slot)->size : 0;
        if (size > 0 && memory != NULL && size <= room) {
            copy = reinterpret_cast<TenantBlock*>(TYPEALIGN(kBlockAlign, memory));
            memcpy(static_cast<void*>(copy), slot_block(slot), size);
        }
        LWLockRelease(slot_lock(slot));
        if (size == 0 || copy != NULL)
            return copy;
        memory =
            static_cast<char*>(MemoryContextAllocHuge(CurrentMemoryContext, size + kBlockAlign));
        room = size;
    }
}

// What a load found out before it takes the slot's lock.
struct Load {
    TenantSlot* slot;
    const TenantKey* key;
    uint64 incarnation;
    uint64 build; // that the block replaces, 0: none
    uint64 wanted;
    uint64 presences;
    TenantBlock* block;
    bool checkpoint_void; // the whole record was counted
    Recount recount;
};

enum class Outcome { done, again, full };

// Puts the turns in progress that the record showed on the slot's pending list. The lock is held.
static void add_pending(TenantSlot* slot, const Recount* recount) {
    if (recount->pending_count == 0)
        return;
    PendingCharge* list = static_cast<PendingCharge*>(chunk_address(slot->pending));
    memcpy(list + slot->pending_count, recount->pending,
           sizeof(PendingCharge) * recount->pending_count);
    slot->pending_count += recount->pending_count;
    slot->in_flight += recount->pending_count;
}

static Outcome publish(Load* load) {
    TenantSlot* slot = load->slot;
    if (!pending_room(slot, load->recount.pending_count))
        return Outcome::full;
    dsa_pointer chunk = chunk_allocate(load->block->size, slot);
    if (!DsaPointerIsValid(chunk))
        return Outcome::full;
    CarryScratch scratch = carry_scratch(load->block);
    const ZoneDays* zones = zone_days(GetCurrentTimestamp(), true);
    dsa_pointer unused = chunk;
    bool replaces = load->build != 0;

    LWLockAcquire(slot_lock(slot), LW_EXCLUSIVE);
    bool same = slot->used && slot->incarnation == load->incarnation &&
                slot->build == load->build &&
                slot->presences - load->presences <= kRecentPresences &&
                slot->pending_room - slot->pending_count - slot->pending_promised >=
                    load->recount.pending_count;
    if (same) {
        if (replaces)
            carry_over(load->block, slot_block(slot), &scratch, zones);
        for (uint64 i = load->presences; i < slot->presences; i++)
            presence_apply(load->block, &slot->recent_presence[i % kRecentPresences], zones);
        memcpy(chunk_address(chunk), static_cast<void*>(load->block), load->block->size);
        add_pending(slot, &load->recount);
        unused = slot->chunk;
        slot->chunk = chunk;
        slot->build = pg_atomic_add_fetch_u64(&shared->incarnations, 1);
        slot->generation = load->wanted;
        slot->horizon_from = load->block->horizon_from;
        slot->horizon_until = load->block->horizon_until;
        slot->bounded = block_bounded(load->block);
        slot->ticket = Max(slot->ticket, load->recount.max_ticket);
        slot->checkpoint_wanted = slot->checkpoint_wanted || replaces || load->checkpoint_void;
        slot->counter[COUNT_REBUILDS]++;
    }
    LWLockRelease(slot_lock(slot));
    chunk_free(unused);
    return same ? Outcome::done : Outcome::again;
}

static Outcome load_block(TenantSlot* slot, const TenantKey* key) {
    Load load = {};
    load.slot = slot;
    load.key = key;
    load.incarnation = slot->incarnation;
    load.build = slot->build;
    load.wanted = pg_atomic_read_u64(&slot->wanted_generation);
    load.presences = slot->presences;
    TenantBlock* old = tenant_copy(key, slot);
    if ((old == NULL) != (load.build == 0))
        return Outcome::again;

    Configuration configuration;
    Checkpoint checkpoint = {};
    configuration_read(key->tenant, &configuration);
    load.block = configuration_block(&configuration, old);
    if (old != NULL && !open_counts_known(old, load.block)) {
        open_counts_read(slot, key, load.block);
        return Outcome::again;
    }
    if (old == NULL) {
        slots_displace(key);
        checkpoint_read(key->tenant, &checkpoint);
        load.checkpoint_void = !checkpoint.found && checkpoint.ticket > 0;
        count_all(&load.recount, key, load.block, &checkpoint, true);
    } else {
        count_new(&load.recount, key, load.block, old, &checkpoint, true);
    }
    return publish(&load);
}

// The record was edited by hand and nothing is in flight: forgets the counts. False: something is.
static void drop_outdated_counts(TenantSlot* slot, const TenantKey* key) {
    dsa_pointer chunk = InvalidDsaPointer;
    LWLockAcquire(slot_lock(slot), LW_EXCLUSIVE);
    if (tenant_usable(slot, key) && slot->recount && slot->in_flight == 0 &&
        slot->pending_promised == 0) {
        chunk = slot->chunk;
        slot->chunk = InvalidDsaPointer;
        slot->build = 0;
        slot->recount = false;
    }
    LWLockRelease(slot_lock(slot));
    chunk_free(chunk);
}

void load_lock_tag(LOCKTAG* tag, const TenantKey* key) {
    // an advisory lock of a class that SQL cannot take
    SET_LOCKTAG_ADVISORY(*tag, key->database, key->assignment,
                         (uint32)((uint64)key->tenant ^ ((uint64)key->tenant >> 32)), 0x4c52);
}

static TenantSlot* load(const TenantKey* key) {
    MemoryContext context =
        AllocSetContextCreate(CurrentMemoryContext, "leadroute load", ALLOCSET_DEFAULT_SIZES);
    MemoryContext caller = MemoryContextSwitchTo(context);
    LOCKTAG tag;
    load_lock_tag(&tag, key);
    (void)LockAcquire(&tag, ExclusiveLock, false, false);
    TenantSlot* slot = NULL;
    for (;;) {
        CHECK_FOR_INTERRUPTS();
        slot = slot_for(key);
        if (slot == NULL || up_to_date(slot, key))
            break;
        drop_outdated_counts(slot, key);
        if (load_block(slot, key) == Outcome::full) {
            slot = NULL;
            break;
        }
    }
    LockRelease(&tag, ExclusiveLock, false);
    MemoryContextSwitchTo(caller);
    MemoryContextDelete(context);
    return slot;
}

TenantSlot* tenant_ready(const TenantKey* key) {
    static TenantSlot* latest = NULL;
    if (latest == NULL || !up_to_date(latest, key)) {
        latest = slot_find(key);
        if (latest == NULL || !up_to_date(latest, key))
            latest = load(key);
        if (latest == NULL)
            return NULL;
    }
    if (latest->pending_count > 0)
        pending_settle(latest);
    return latest;
}

TenantBlock* tenant_ready_copy(const TenantKey* key, TenantSlot** slot) {
    for (;;) {
        CHECK_FOR_INTERRUPTS();
        *slot = tenant_ready(key);
        TenantBlock* copy = *slot == NULL ? NULL : tenant_copy(key, *slot);
        if (*slot == NULL || copy != NULL)
            return copy; // otherwise it was evicted in between
    }
}

// --- this transaction's own copies ---

struct OwnDraft {
    Draft draft;
    TenantKey key;
    uint64 serial;
    uint64 generation; // of what others have committed
    MemoryContext context;
    OwnDraft* next;
};
static OwnDraft* drafts;

void tenant_drafts_drop(void) {
    drafts = NULL;
} // memory goes with the transaction

// A turn of this transaction that the base counts as in flight.
static void settle_own(void* block, const Held* held) {
    if (held->effect == core::Effect::turn)
        block_settle(static_cast<TenantBlock*>(block), held->pool, held->rep, held->day,
                     held->turns, held->extra);
}

static bool knows_all_of(TenantBlock* known, TenantBlock* block) {
    for (int32 i = 0; i < block->rep_count; i++)
        if (block_rep_days(known, block->rep(i)->id) == NULL)
            return false;
    for (int32 i = 0; i < block->member_count; i++)
        if (block_member_state(known, block->pool(block->member(i)->pool)->id, block->tag(i)->id) ==
            NULL)
            return false;
    return true;
}

// Puts those aside that were counted because nobody knew them. Of drafts that were rolled back some
// are left: they go when they outnumber the rest, and the drafts still open make theirs known
// again.
static void add_aside(TenantBlock* block, const Recount* counted, int32 members) {
    if (block->aside_member_count + block->aside_rep_count + members >
        Max(256, block->rep_count + block->member_count))
        aside_drop_idle(block);
    TenantBlock* from = counted->block;
    for (int32 i = 0; i < from->rep_count; i++)
        if (counted->rep_wanted[i])
            aside_add_rep(block, from->rep(i)->id, &from->rep(i)->days, &from->rep(i)->open);
    for (int32 i = 0; i < from->member_count; i++) {
        if (!counted->member_wanted[i])
            continue;
        AsideMember aside = {from->pool(from->member(i)->pool)->id, 0, *from->member(i),
                             *from->tag(i)};
        aside_add_member(block, &aside);
    }
    aside_sort(block);
}

// Makes reps and members of `block`, in which nothing is counted yet, known to the slot's block, of
// which `known` is a copy, so that turns given to them in this transaction are counted there.
static Outcome make_known(TenantSlot* slot, const TenantKey* key, uint64 build, TenantBlock* known,
                          TenantBlock* block) {
    Recount counted;
    Checkpoint none = {};
    count_new(&counted, key, block, known, &none, true);
    int32 reps = 0, members = 0;
    for (int32 i = 0; i < block->rep_count; i++)
        reps += counted.rep_wanted[i] ? 1 : 0;
    for (int32 i = 0; i < block->member_count; i++)
        members += counted.member_wanted[i] ? 1 : 0;
    BlockRoom room = block_room(known);
    room.aside_reps += reps;
    room.aside_members += members;
    if (!pending_room(slot, counted.pending_count))
        return Outcome::full;
    dsa_pointer chunk = chunk_allocate(block_size(&room), slot);
    if (!DsaPointerIsValid(chunk))
        return Outcome::full;
    dsa_pointer unused = chunk;
    LWLockAcquire(slot_lock(slot), LW_EXCLUSIVE);
    if (tenant_usable(slot, key) && slot->build == build &&
        slot->pending_room - slot->pending_count - slot->pending_promised >=
            counted.pending_count) {
        TenantBlock* wider = static_cast<TenantBlock*>(chunk_address(chunk));
        block_copy_wider(wider, slot_block(slot), reps, members);
        add_aside(wider, &counted, members);
        add_pending(slot, &counted);
        unused = slot->chunk;
        slot->chunk = chunk;
        slot->build = pg_atomic_add_fetch_u64(&shared->incarnations, 1);
    }
    LWLockRelease(slot_lock(slot));
    chunk_free(unused);
    return unused == chunk ? Outcome::again : Outcome::done;
}

// Again: the slot's block is another by now.
static Outcome draft_make(OwnDraft* own) {
    const TenantKey* key = &own->key;
    Configuration configuration;
    Recount recount;
    Checkpoint checkpoint = {};
    Draft* draft = &own->draft;
    // what the others have given out meanwhile, and what this transaction charged them for
    TenantSlot* slot = slot_find(key);
    draft->build = slot == NULL ? 0 : slot->build;
    draft->full = false;
    TenantBlock* known = slot == NULL ? NULL : tenant_copy(key, slot);
    configuration_read(key->tenant, &configuration);
    TenantBlock* block = configuration_block(&configuration, NULL);
    if (known != NULL && !open_counts_known(known, block)) {
        open_counts_read(slot, key, block);
        return Outcome::again;
    }
    if (known != NULL && !knows_all_of(known, block)) {
        if (make_known(slot, key, draft->build, known, block) != Outcome::full)
            return Outcome::again;
        draft->full = true;
        block = configuration_block(&configuration, NULL);
    }
    if (known == NULL || slot->recount || record_is_edited(key)) {
        checkpoint_read(key->tenant, &checkpoint);
        count_all(&recount, key, block, &checkpoint, false);
    } else {
        count_new(&recount, key, block, known, &checkpoint, false);
        CarryScratch scratch = carry_scratch(block);
        carry_over(block, known, &scratch, zone_days(GetCurrentTimestamp(), true));
        charge_visit(slot, settle_own, block);
    }
    draft->block = block;
    own->serial = config_serial();
    return Outcome::done;
}

static bool draft_current(const OwnDraft* own, const TenantSlot* slot, uint64 generation) {
    TenantBlock* block = own->draft.block;
    return block != NULL && !own->draft.full && own->serial == config_serial() &&
           within(GetCurrentTimestamp(), block->horizon_from, block->horizon_until) &&
           own->generation == generation && own->draft.build == (slot == NULL ? 0 : slot->build);
}

const Draft* tenant_draft(const TenantKey* key) {
    OwnDraft* own = drafts;
    while (own != NULL && !same_key(&own->key, key))
        own = own->next;
    if (own == NULL) {
        own = static_cast<OwnDraft*>(MemoryContextAllocZero(TopTransactionContext, sizeof(*own)));
        own->key = *key;
        own->context =
            AllocSetContextCreate(TopTransactionContext, "leadroute draft", ALLOCSET_DEFAULT_SIZES);
        own->next = drafts;
        drafts = own;
    }
    TenantSlot* slot = slot_find(key);
    uint64 generation = slot == NULL ? pg_atomic_read_u64(&shared->generation)
                                     : pg_atomic_read_u64(&slot->wanted_generation);
    if (draft_current(own, slot, generation))
        return &own->draft;
    MemoryContext caller = MemoryContextSwitchTo(own->context);
    do {
        CHECK_FOR_INTERRUPTS();
        own->draft.block = NULL;
        MemoryContextReset(own->context);
    } while (draft_make(own) == Outcome::again);
    own->generation = generation;
    MemoryContextSwitchTo(caller);
    return &own->draft;
}
