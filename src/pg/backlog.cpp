// Saying that somebody may take waiting leads; see backlog.h.
#include "backlog.h"
#include "events.h"

// A tenant some of whose leads wait, decided when this many had been said eligible.
struct Waiting {
    TenantSlot* slot;
    uint32 said;
};
constexpr int kWaiting = 8;

static EventSlot* pinned; // of the worker; counted as used
static bool rules;
static TimestampTz offer_ends = DT_NOEND; // the first that this transaction has made
static bool entries;                      // of territories were edited: of this tenant, or of all
static int64 entries_tenant;
static bool entries_all;
static bool walking; // this transaction walks: what fails in it makes nobody eligible
static Waiting waiting[kWaiting];
static int waiting_count;

void backlog_prepare(void) {
    if (pinned != NULL || !shared_ready())
        return;
    pinned = event_slot_pin();
    if (pinned != NULL && leadroute_backlog && leadroute_notify == NOTIFY_WORKER &&
        pg_atomic_read_u32(&pinned->state) != WORKER_RUNNING)
        notifier_start(pinned);
}

static void raise(pg_atomic_uint32* flag, uint32 level) {
    uint32 was = pg_atomic_read_u32(flag);
    while (was < level && !pg_atomic_compare_exchange_u32(flag, &was, level)) {
    }
}

static void want(TenantSlot* slot, uint32 level) {
    if (walking)
        return;
    pg_atomic_fetch_add_u32(&slot->backlog_said, 1);
    raise(&slot->backlog, level);
    // should it be another database's by now, its worker looks for nothing
    EventSlot* of_database = pinned != NULL ? pinned : event_slot_hint();
    if (of_database == NULL || !leadroute_backlog)
        return;
    raise(&of_database->backlog, BACKLOG_REPS);
    event_slot_wake(of_database);
}

void backlog_want(TenantSlot* slot) {
    want(slot, BACKLOG_REPS);
}

void backlog_eased(TenantSlot* slot) {
    // read without its lock: at worst somebody is said eligible for nothing
    if (slot->counter[COUNT_WAITING] > 0)
        backlog_want(slot);
}

void backlog_want_tenant(int64 tenant, bool all_tenants) {
    uint32 level = rules ? BACKLOG_RULES : BACKLOG_REPS;
    bool known = false;
    for (int i = 0; i < shared->slot_count; i++) {
        TenantSlot* slot = shared_slot(i);
        // looked at without its lock: at worst somebody is said eligible for nothing
        if (!slot->used || slot->key.database != MyDatabaseId ||
            (!all_tenants && slot->key.tenant != tenant))
            continue;
        want(slot, level);
        known = true;
    }
    if (pinned == NULL || (known && !all_tenants))
        return;
    pg_atomic_exchange_u32(&pinned->backlog_all, 1);
    raise(&pinned->backlog, level);
    event_slot_wake(pinned);
}

void backlog_rules_edited(void) {
    rules = true;
}

void backlog_entries_edited(int64 tenant, bool all_tenants) {
    if (!shared_ready())
        return;
    entries_all = all_tenants || (entries && (entries_all || entries_tenant != tenant));
    entries_tenant = tenant;
    entries = true;
    backlog_prepare();
}

void backlog_walks(void) {
    walking = true;
}

void backlog_note_waiting(const TenantKey* key) {
    TenantSlot* slot = slot_find(key);
    if (slot == NULL)
        return;
    for (int i = 0; i < waiting_count; i++)
        if (waiting[i].slot == slot)
            return;
    // more tenants than there is room for: those are left to the next look
    if (waiting_count == kWaiting)
        return;
    waiting[waiting_count++] = {slot, pg_atomic_read_u32(&slot->backlog_said)};
    backlog_prepare();
}

void backlog_note_offer(TimestampTz until) {
    offer_ends = Min(offer_ends, until);
    backlog_prepare();
}

void offer_ends_at(EventSlot* slot, TimestampTz until) {
    uint64 was = pg_atomic_read_u64(&slot->offer_ends);
    while (until < (TimestampTz)was &&
           !pg_atomic_compare_exchange_u64(&slot->offer_ends, &was, (uint64)until)) {
    }
}

void backlog_commit(void) {
    if (offer_ends != DT_NOEND && pinned != NULL) {
        offer_ends_at(pinned, offer_ends);
        event_slot_wake(pinned);
    }
    for (int i = 0; i < waiting_count; i++)
        if (pg_atomic_read_u32(&waiting[i].slot->backlog_said) != waiting[i].said)
            want(waiting[i].slot, BACKLOG_REPS);
    if (!entries)
        return;
    rules = true;
    backlog_want_tenant(entries_tenant, entries_all);
}

void backlog_forget(void) {
    if (pinned != NULL)
        event_slot_unpin(pinned);
    pinned = NULL;
    rules = entries = walking = false;
    offer_ends = DT_NOEND;
    waiting_count = 0;
}
