// Pending turns: of transactions whose end nobody here will be told of, because they were prepared
// or were found in progress in the record. They are settled by whoever looks next.
#include "backlog.h"
#include "transaction.h"

bool pending_room(TenantSlot* slot, int32 count) {
    if (count == 0)
        return true;
    for (;;) {
        LWLockAcquire(slot_lock(slot), LW_SHARED);
        int32 needed = slot->pending_count + slot->pending_promised + count;
        // A tenant that was evicted meanwhile needs none: who asked sees that it is another.
        bool enough = !slot->used || slot->pending_room >= needed;
        LWLockRelease(slot_lock(slot));
        if (enough)
            return true;
        CHECK_FOR_INTERRUPTS();
        int32 room = needed + needed / 2 + 16;
        dsa_pointer chunk = chunk_allocate(sizeof(PendingCharge) * room, slot);
        if (!DsaPointerIsValid(chunk))
            return false;
        dsa_pointer unused = chunk;
        LWLockAcquire(slot_lock(slot), LW_EXCLUSIVE);
        if (slot->used && slot->pending_room < room) {
            if (slot->pending_count > 0)
                memcpy(chunk_address(chunk), chunk_address(slot->pending),
                       sizeof(PendingCharge) * slot->pending_count);
            unused = slot->pending;
            slot->pending = chunk;
            slot->pending_room = room;
        }
        LWLockRelease(slot_lock(slot));
        chunk_free(unused);
    }
}

static void settle_xid(TenantSlot* slot, TransactionId xid, bool committed) {
    const ZoneDays* zones = zone_days(GetCurrentTimestamp(), true);
    LWLockAcquire(slot_lock(slot), LW_EXCLUSIVE);
    bool valid = slot->pending_count > 0 && DsaPointerIsValid(slot->chunk);
    PendingCharge* list = valid ? static_cast<PendingCharge*>(chunk_address(slot->pending)) : NULL;
    for (int32 i = 0; valid && i < slot->pending_count;) {
        PendingCharge* charge = &list[i];
        if (charge->xid != xid) {
            i++;
            continue;
        }
        const Held held = {charge->effect, charge->pool,  charge->rep,
                           charge->day,    charge->turns, charge->extra};
        slot_end_held(slot, &held, committed, zones);
        list[i] = list[--slot->pending_count];
    }
    LWLockRelease(slot_lock(slot));
    backlog_eased(slot);
}

void pending_settle(TenantSlot* slot) {
    constexpr int kBatch = 64;
    TransactionId xids[kBatch];
    int count = 0;
    LWLockAcquire(slot_lock(slot), LW_SHARED);
    if (slot->pending_count > 0 && DsaPointerIsValid(slot->chunk)) {
        const PendingCharge* list = static_cast<PendingCharge*>(chunk_address(slot->pending));
        for (int32 i = 0; i < slot->pending_count && count < kBatch; i++) {
            int known = 0;
            while (known < count && xids[known] != list[i].xid)
                known++;
            if (known == count)
                xids[count++] = list[i].xid;
        }
    }
    LWLockRelease(slot_lock(slot));
    // in progress first, then committed, else aborted: the order that cannot err
    for (int i = 0; i < count; i++)
        if (!TransactionIdIsCurrentTransactionId(xids[i]) && !TransactionIdIsInProgress(xids[i]))
            settle_xid(slot, xids[i], TransactionIdDidCommit(xids[i]));
}
