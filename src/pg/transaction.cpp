// Keeping at commit and undoing at abort; see transaction.h. The callbacks allocate nothing and
// raise nothing: after the commit record is written an error would take the server down.
#include "transaction.h"
#include "backlog.h"
#include "claim_cursor.h"
#include "events.h"
#include "growing.h"
#include "notes.h"
#include "record.h"
#include "tenant.h"
#include "frame.h"

extern "C" {
#include "access/subtrans.h"
}

// A tenant that this transaction has charged.
struct Touched {
    TenantSlot* slot;
    uint64 incarnation;
    int64 ticket;
    int32 promised; // room on the pending list, between PRE_PREPARE and PREPARE
};

static core::Ledger ledger;
static Growing<Touched> touched;
static bool returning; // something is to be returned at commit
static int32* order;   // of ledger entries, for settling tenant by tenant
static int32 order_room;

// --- charging ---

void charge_prepare(void) {
    if (ledger.needs_growth()) {
        int32 capacity = Max(64, ledger.capacity * 2);
        void* old = ledger.move_to(
            MemoryContextAllocHuge(TopMemoryContext, core::Ledger::block_size(capacity)), capacity);
        if (old != NULL)
            pfree(old);
    }
    if (order_room < ledger.capacity) {
        Size bytes = sizeof(int32) * ledger.capacity;
        order = static_cast<int32*>(order == NULL ? MemoryContextAllocHuge(TopMemoryContext, bytes)
                                                  : repalloc_huge(order, bytes));
        order_room = ledger.capacity;
    }
    touched.grow();
}

static int find_touched(const TenantSlot* slot, uint64 incarnation) {
    for (int i = touched.count - 1; i >= 0; i--)
        if (touched.items[i].slot == slot && touched.items[i].incarnation == incarnation)
            return i;
    return -1;
}

static void entry_add(TenantSlot* slot, int64 ticket, TimestampTz now) {
    BackendEntry* entry = my_backend_entry();
    if (entry->pid != MyProcPid) {
        entry->pid = MyProcPid;
        entry->database = MyDatabaseId;
        entry->since = now;
        entry->reservations = 0;
        entry->count = 0;
        entry->overflow = false;
    }
    if (entry->count == kBackendTickets) {
        entry->overflow = true;
        return;
    }
    entry->tickets[entry->count].slot = slot;
    entry->tickets[entry->count].incarnation = slot->incarnation;
    entry->tickets[entry->count].ticket = ticket;
    entry->count++;
}

int64 charge_ticket(TenantSlot* slot, TimestampTz now) {
    int i = find_touched(slot, slot->incarnation);
    if (i < 0) {
        i = touched.count++;
        touched.items[i] = {slot, slot->incarnation, ++slot->ticket, 0};
        entry_add(slot, slot->ticket, now);
    }
    return touched.items[i].ticket;
}

static Held held_of(const core::LedgerKey& key, int64 turns, int64 extra) {
    return {key.effect, key.pool, key.rep, key.day, (int32)turns, extra};
}

void charge_note(TenantSlot* slot, int32 pool, int64 rep, DateADT day, core::Effect effect,
                 int64 extra) {
    int i = find_touched(slot, slot->incarnation);
    core::LedgerKey key = {rep, (uint32)i, pool, day, effect};
    ledger.charge(GetCurrentTransactionNestLevel(), key, extra);
    if (effect == core::Effect::turn)
        my_backend_entry()->reservations++;
    else
        returning = true;
}

static void give_back(const core::LedgerKey& key, int64 turns, int64 extra) {
    Touched* t = &touched.items[key.state];
    TenantSlot* slot = t->slot;
    const ZoneDays* zones = zone_days(GetCurrentTimestamp(), false);
    LWLockAcquire(slot_lock(slot), LW_EXCLUSIVE);
    if (slot->used && slot->incarnation == t->incarnation && DsaPointerIsValid(slot->chunk)) {
        Held held = held_of(key, turns, extra);
        slot_end_held(slot, &held, false, zones);
        if (key.effect == core::Effect::turn)
            my_backend_entry()->reservations -= turns;
    }
    LWLockRelease(slot_lock(slot));
    backlog_eased(slot);
}

void charge_undo(TenantSlot* slot, int32 pool, int64 rep, DateADT day, int64 extra) {
    int i = find_touched(slot, slot->incarnation);
    if (i < 0)
        return;
    core::LedgerKey key = {rep, (uint32)i, pool, day, core::Effect::turn};
    if (ledger.uncharge(GetCurrentTransactionNestLevel(), key, 1, extra))
        give_back(key, 1, extra);
}

void charge_visit(const TenantSlot* slot, OwnChargeVisitor visit, void* context) {
    ledger.for_each([&](const core::LedgerKey& key, int64 turns, int64 extra) {
        if (touched.items[key.state].slot != slot)
            return;
        Held held = held_of(key, turns, extra);
        visit(context, &held);
    });
}

// --- settling ---

static void entry_remove(const Touched* t) {
    BackendEntry* entry = my_backend_entry();
    for (int i = 0; i < entry->count; i++) {
        if (entry->tickets[i].slot == t->slot && entry->tickets[i].ticket == t->ticket) {
            entry->tickets[i] = entry->tickets[--entry->count];
            return;
        }
    }
}

// Calls `one` for each charge of tenant `t` and then `last`, all under one hold of its lock: a
// checkpoint sees either all of a ticket as settled or nothing.
template <typename One, typename Last>
static void settle_tenant(int t, int32* next, int32 count, One one, Last last) {
    TenantSlot* slot = touched.items[t].slot;
    LWLockAcquire(slot_lock(slot), LW_EXCLUSIVE);
    bool valid = slot->used && slot->incarnation == touched.items[t].incarnation;
    bool loaded = valid && DsaPointerIsValid(slot->chunk);
    for (; *next < count; (*next)++) {
        const core::LedgerEntry* entry = &ledger.entries[order[*next]];
        if ((int)entry->key.state != t)
            break;
        if (loaded)
            one(slot, held_of(entry->key, entry->turns, entry->extra));
    }
    if (valid)
        last(slot, &touched.items[t]);
    entry_remove(&touched.items[t]);
    LWLockRelease(slot_lock(slot));
}

static int compare_state(const void* a, const void* b) {
    uint32 x = ledger.entries[*static_cast<const int32*>(a)].key.state;
    uint32 y = ledger.entries[*static_cast<const int32*>(b)].key.state;
    return x < y ? -1 : (x > y ? 1 : 0);
}

// Lists the entries, tenant by tenant; the array was made when they were charged.
static int32 order_entries(void) {
    int32 count = 0;
    for (int32 level = 0; level < ledger.level_count; level++)
        for (int32 i = ledger.levels[level].first; i >= 0; i = ledger.entries[i].next)
            if (ledger.entries[i].turns != 0)
                order[count++] = i;
    if (touched.count > 1)
        qsort(order, count, sizeof(int32), compare_state);
    return count;
}

static void settle_commit(void) {
    int32 count = order_entries();
    int32 next = 0;
    const ZoneDays* zones = returning ? zone_days(GetCurrentTimestamp(), false) : NULL;
    for (int t = 0; t < touched.count; t++)
        settle_tenant(
            t, &next, count,
            [=](TenantSlot* slot, const Held& held) { slot_end_held(slot, &held, true, zones); },
            [](TenantSlot* slot, Touched*) {
                slot->last_used = GetCurrentTransactionStopTimestamp();
            });
    for (int t = 0; returning && t < touched.count; t++)
        backlog_eased(touched.items[t].slot);
}

static void settle_prepare(TransactionId xid, TimestampTz since) {
    int32 count = order_entries();
    int32 next = 0;
    for (int t = 0; t < touched.count; t++)
        settle_tenant(
            t, &next, count,
            [&](TenantSlot* slot, const Held& held) {
                PendingCharge* list = static_cast<PendingCharge*>(chunk_address(slot->pending));
                list[slot->pending_count++] = {
                    xid,        since,       held.pool, touched.items[t].ticket, held.rep, held.day,
                    held.turns, held.effect, held.extra};
            },
            [](TenantSlot* slot, Touched* mine) {
                slot->pending_promised -= mine->promised;
                mine->promised = 0;
            });
}

// --- before PREPARE ---

static void promise_room(Touched* t, int32 count) {
    for (;;) {
        if (!pending_room(t->slot, count))
            memory_full();
        bool promised = false;
        LWLockAcquire(slot_lock(t->slot), LW_EXCLUSIVE);
        if (t->slot->pending_room - t->slot->pending_count - t->slot->pending_promised >= count) {
            t->slot->pending_promised += count;
            t->promised = count;
            promised = true;
        }
        LWLockRelease(slot_lock(t->slot));
        if (promised)
            return;
    }
}

static void before_prepare(void) {
    notes_before_prepare();
    int32 count = order_entries();
    int32 next = 0;
    for (int t = 0; t < touched.count; t++) {
        int32 first = next;
        while (next < count && (int)ledger.entries[order[next]].key.state == t)
            next++;
        promise_room(&touched.items[t], next - first);
    }
}

static void forget_transaction(void) {
    events_forget();
    backlog_forget();
    claim_cursors_forget();
    if (touched.count > 0) {
        for (int t = 0; t < touched.count; t++) {
            Touched* mine = &touched.items[t];
            LWLockAcquire(slot_lock(mine->slot), LW_EXCLUSIVE);
            entry_remove(mine);
            if (mine->promised > 0)
                mine->slot->pending_promised -= mine->promised;
            LWLockRelease(slot_lock(mine->slot));
        }
        BackendEntry* entry = my_backend_entry();
        entry->count = 0;
        entry->reservations = 0;
        entry->overflow = false;
        entry->pid = 0;
    }
    ledger.clear();
    notes_forget();
    touched.count = 0;
    returning = false;
    tenant_drafts_drop();
    frames_forget();
}

static void at_end(XactEvent event, void*) {
    switch (event) {
    case XACT_EVENT_PRE_COMMIT:
        record_close();
        events_before_commit();
        break;
    case XACT_EVENT_PRE_PREPARE:
        record_close();
        events_before_prepare();
        before_prepare();
        break;
    case XACT_EVENT_COMMIT:
        settle_commit();
        notes_commit();
        claim_cursors_commit();
        events_commit();
        forget_transaction();
        break;
    case XACT_EVENT_PREPARE:
        settle_prepare(GetTopTransactionIdIfAny(), my_backend_entry()->since);
        notes_end(1, false);
        forget_transaction();
        break;
    case XACT_EVENT_ABORT:
        record_abandon();
        ledger.drop_level(1, give_back);
        notes_end(1, false);
        claim_cursors_abort();
        forget_transaction();
        break;
    default:
        break;
    }
}

static void at_subtransaction_end(SubXactEvent event, SubTransactionId, SubTransactionId, void*) {
    int level = GetCurrentTransactionNestLevel();
    if (event == SUBXACT_EVENT_COMMIT_SUB) {
        if (!ledger.empty())
            ledger.commit_level(level);
        events_keep(level);
        notes_end(level, true);
    } else if (event == SUBXACT_EVENT_ABORT_SUB) {
        if (!ledger.empty())
            ledger.drop_level(level, give_back);
        events_drop(level);
        notes_end(level, false);
        claim_cursors_abort();
        frames_abort(level);
    }
}

void transaction_init(void) {
    RegisterXactCallback(at_end, NULL);
    RegisterSubXactCallback(at_subtransaction_end, NULL);
}
