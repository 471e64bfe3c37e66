// Keeping at commit and undoing at abort; see transaction.h. The callbacks allocate nothing and
// raise nothing: after the commit record is written an error would take the server down.
#include "transaction.h"
#include "backlog.h"
#include "events.h"
#include "growing.h"
#include "presence.h"
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

struct Changed {
    int64 tenant;
    bool all_tenants;
};

// A record with rows that memory may not count.
struct Edited {
    TenantKey key;
    bool by_hand;
};

struct Noted {
    TenantSlot* slot;
    uint64 incarnation;
    uint64 key; // of an alert; 0: a checkpoint
    int level;
};

static core::Ledger ledger;
static Growing<Touched> touched;
static Growing<Changed> changed;
static Growing<Edited> edited;
static Growing<Noted> noted;
static bool attachments;
static bool returning; // something is to be returned at commit
static uint64 serial = 1;
static int32* order; // of ledger entries, for settling tenant by tenant
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

void charge_undo_draft(void) {
    if (changed.count > 0 || presence_changed_any())
        serial++;
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
    presence_before_prepare();
    if (changed.count > 0 || edited.count > 0 || attachments)
        ereport(ERROR,
                (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                 errmsg("cannot PREPARE a transaction that changed leadroute's configuration"),
                 errdetail("Nobody would be told of the change when it is committed."),
                 errhint("COMMIT it, or insert the leads in a transaction of their own.")));
    int32 count = order_entries();
    int32 next = 0;
    for (int t = 0; t < touched.count; t++) {
        int32 first = next;
        while (next < count && (int)ledger.entries[order[next]].key.state == t)
            next++;
        promise_room(&touched.items[t], next - first);
    }
}

// --- configuration, record, alerts, checkpoints ---

void config_changed(int64 tenant, bool all_tenants) {
    serial++;
    for (int i = 0; i < changed.count; i++)
        if (changed.items[i].all_tenants == all_tenants && changed.items[i].tenant == tenant)
            return;
    changed.grow();
    changed.items[changed.count++] = {tenant, all_tenants};
    backlog_prepare();
}

bool config_is_draft(int64 tenant) {
    for (int i = 0; i < changed.count; i++)
        if (changed.items[i].all_tenants || changed.items[i].tenant == tenant)
            return true;
    return presence_changed(tenant);
}

void draft_outdated(void) {
    serial++;
}

uint64 config_serial(void) {
    return serial;
}

void attachments_changed(void) {
    attachments = true;
    config_changed(0, true);
}

void record_edited(Oid assignment, int64 tenant, bool by_hand) {
    TenantKey key = {MyDatabaseId, assignment, tenant};
    if (by_hand)
        serial++;
    for (int i = 0; i < edited.count; i++)
        if (same_key(&edited.items[i].key, &key)) {
            edited.items[i].by_hand |= by_hand;
            return;
        }
    edited.grow();
    edited.items[edited.count++] = {key, by_hand};
}

bool record_is_edited(const TenantKey* key) {
    for (int i = 0; i < edited.count; i++)
        if (edited.items[i].by_hand && same_key(&edited.items[i].key, key))
            return true;
    return false;
}

bool alert_raised_here(TenantSlot* slot, uint64 key) {
    for (int i = 0; i < noted.count; i++)
        if (noted.items[i].slot == slot && noted.items[i].key == key)
            return true;
    return false;
}

static void note(TenantSlot* slot, uint64 key) {
    noted.grow();
    noted.items[noted.count++] = {slot, slot == NULL ? 0 : slot->incarnation, key,
                                  GetCurrentTransactionNestLevel()};
}

void alert_note(TenantSlot* slot, uint64 key) {
    note(slot, key);
}

void checkpoint_note(TenantSlot* slot) {
    note(slot, 0);
}

static void publish_note(const Noted* n, bool committed) {
    TenantSlot* slot = n->slot;
    if (slot == NULL)
        return;
    LWLockAcquire(slot_lock(slot), LW_EXCLUSIVE);
    if (slot->used && slot->incarnation == n->incarnation) {
        if (n->key == 0 && slot->checkpoint_by == MyProcPid) {
            slot->checkpoint_by = 0;
            if (committed) {
                slot->checkpoint_wanted = false;
                slot->since_checkpoint = 0;
            }
        } else if (n->key != 0 && committed) {
            int oldest = 0;
            for (int i = 1; i < kRecentAlerts; i++)
                if (slot->recent[i].raised < slot->recent[oldest].raised)
                    oldest = i;
            slot->recent[oldest] = {n->key, GetCurrentTimestamp()};
        }
    }
    LWLockRelease(slot_lock(slot));
}

// The notes of a subtransaction of this level: its parent's now, or void.
static void end_notes(int level, bool committed) {
    presence_end_level(level, committed);
    int kept = 0;
    for (int i = 0; i < noted.count; i++) {
        Noted n = noted.items[i];
        if (n.level >= level) {
            if (!committed) {
                publish_note(&n, false);
                continue;
            }
            n.level = level - 1;
        }
        noted.items[kept++] = n;
    }
    noted.count = kept;
}

static void publish_changes(void) {
    presence_commit();
    backlog_commit();
    if (attachments)
        pg_atomic_add_fetch_u64(&shared->attachments, 1);
    for (int i = 0; i < changed.count; i++)
        slots_outdate(MyDatabaseId, changed.items[i].tenant, changed.items[i].all_tenants);
    for (int i = 0; i < edited.count; i++) {
        TenantSlot* slot = slot_find(&edited.items[i].key);
        if (slot == NULL)
            continue;
        LWLockAcquire(slot_lock(slot), LW_EXCLUSIVE);
        if (slot->used && same_key(&slot->key, &edited.items[i].key))
            slot->recount = true;
        LWLockRelease(slot_lock(slot));
        backlog_want(slot);
    }
}

static void forget_transaction(void) {
    events_forget();
    backlog_forget();
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
    if (edited.count > 0)
        edits_end();
    if (changed.count > 0 || edited.count > 0 || presence_changed_any())
        serial++;
    presence_forget();
    touched.count = changed.count = edited.count = noted.count = 0;
    attachments = returning = false;
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
        publish_changes();
        events_commit();
        end_notes(1, true);
        for (int i = 0; i < noted.count; i++)
            publish_note(&noted.items[i], true);
        forget_transaction();
        break;
    case XACT_EVENT_PREPARE:
        settle_prepare(GetTopTransactionIdIfAny(), my_backend_entry()->since);
        end_notes(1, false);
        forget_transaction();
        break;
    case XACT_EVENT_ABORT:
        record_abandon();
        ledger.drop_level(1, give_back);
        end_notes(1, false);
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
        end_notes(level, true);
    } else if (event == SUBXACT_EVENT_ABORT_SUB) {
        if (!ledger.empty())
            ledger.drop_level(level, give_back);
        events_drop(level);
        end_notes(level, false);
        frames_abort(level);
        if (changed.count > 0 || presence_changed_any())
            serial++; // the change may be undone: read the configuration again
    }
}

void transaction_init(void) {
    RegisterXactCallback(at_end, NULL);
    RegisterSubXactCallback(at_subtransaction_end, NULL);
}
