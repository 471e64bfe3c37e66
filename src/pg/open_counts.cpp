// Reading the open leads of reps that are in memory already and were not counted so far: their
// capacity has just been set, or a pool of theirs goes by open leads now.
//
// Their turns in flight cannot be told from the rows in the record, nor can what ends while it is
// read. So all that may be open counts as open: never more leads than the capacity are given out.
// If there was any doubt, the tenant is counted anew once nothing of it is in flight.
#include "rebuild.h"
#include "transaction.h"

extern "C" {
#include "storage/lock.h"
}

bool open_counts_known(TenantBlock* known, TenantBlock* wanted) {
    for (int32 i = 0; i < wanted->rep_count; i++) {
        if (!wanted->rep(i)->counts_open)
            continue;
        const OpenCount* open = block_rep_open(known, wanted->rep(i)->id);
        if (open != NULL && open->known != OpenKnown::yes)
            return false;
    }
    return true;
}

// Reps that nobody counts yet start at what is in flight. One that is being counted still (by
// someone who was cancelled) goes on. Marks those who are to be read. The lock is held.
static void start_counting(TenantBlock* block, TenantBlock* wanted, bool* reading) {
    for (int32 i = 0; i < wanted->rep_count; i++) {
        OpenCount* open =
            wanted->rep(i)->counts_open ? block_rep_open(block, wanted->rep(i)->id) : NULL;
        reading[i] = open != NULL && open->known != OpenKnown::yes;
        if (!reading[i] || open->known == OpenKnown::counting)
            continue;
        open->used = open->in_flight;
        open->known = OpenKnown::counting;
        open->doubtful = false;
    }
}

// Adds what the record says. True: some of it may have been counted twice. The lock is held.
static bool finish_counting(TenantBlock* block, TenantBlock* counted, const bool* reading) {
    bool doubt = false;
    for (int32 i = 0; i < counted->rep_count; i++) {
        const RepState* rep = counted->rep(i);
        OpenCount* open = reading[i] ? block_rep_open(block, rep->id) : NULL;
        if (open == NULL || open->known != OpenKnown::counting)
            continue;
        doubt = doubt || open->doubtful || open->used != 0 || open->ending != 0 ||
                rep->open.in_flight != 0 || rep->open.ending != 0;
        open->used += rep->open.used + open->ending;
        open->known = OpenKnown::yes;
        if (int32 known = block_find_rep(block, rep->id); known >= 0)
            rep_load_changed(block, known);
    }
    return doubt;
}

void open_counts_read(TenantSlot* slot, const TenantKey* key, TenantBlock* wanted) {
    LOCKTAG tag;
    load_lock_tag(&tag, key);
    (void)LockAcquire(&tag, ExclusiveLock, false, false);
    bool* reading = static_cast<bool*>(MemoryContextAllocExtended(
        CurrentMemoryContext, wanted->rep_count + 1, MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO));
    uint64 incarnation = 0;
    LWLockAcquire(slot_lock(slot), LW_EXCLUSIVE);
    if (tenant_usable(slot, key)) {
        incarnation = slot->incarnation;
        start_counting(slot_block(slot), wanted, reading);
    }
    LWLockRelease(slot_lock(slot));
    if (incarnation != 0) {
        count_open(key, wanted, reading);
        LWLockAcquire(slot_lock(slot), LW_EXCLUSIVE);
        if (tenant_usable(slot, key) && slot->incarnation == incarnation &&
            finish_counting(slot_block(slot), wanted, reading))
            slot->recount = true;
        LWLockRelease(slot_lock(slot));
    }
    LockRelease(&tag, ExclusiveLock, false);
}
