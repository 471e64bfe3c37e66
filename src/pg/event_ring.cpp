// The rings of the events: one for each database in use, filled by commit callbacks and emptied by
// the database's worker.
//
// A producer reserves its place by compare-and-swap, copies, and stamps the batch as complete; the
// stamp depends on the place, so what an earlier lap left there is never taken for one. The only
// consumer stops at a batch that is not complete.
//
// The lock guards the choice of slots and the starting of workers; nobody waits under it.
#include "backlog.h"
#include "events.h"
#include "shared.h"

extern "C" {
#include "storage/latch.h"
}

constexpr int kEventSlots = 16;
constexpr TimestampTz kClockSlack = 10 * USECS_PER_SEC;

struct EventShared {
    uint64 incarnation;
    int backend_count;
    Size ring_size;
    pg_atomic_uint64 clock_high; // latest decision, to a second
    pg_atomic_uint64 clock_low;  // see events_clock_low()
    EventSlot slots[kEventSlots];
    pg_atomic_uint32 publishing[FLEXIBLE_ARRAY_MEMBER]; // by backend
};

static EventShared* events;
static char* rings;
static LWLock* lock;

static Size shared_size(int backends) {
    return add_size(offsetof(EventShared, publishing),
                    mul_size(sizeof(pg_atomic_uint32), backends));
}

static Size ring_bytes(void) {
    return (Size)leadroute_event_buffer * 1024;
}

Size events_shmem_size(int backends) {
    return add_size(MAXALIGN(shared_size(backends)), mul_size(ring_bytes(), kEventSlots));
}

// Gives the slot to a database. `users` is left alone: another backend may be about to find that
// the slot is no longer its own.
static void slot_reset(EventSlot* slot, Oid database) {
    slot->pid = 0;
    slot->asked_at = slot->next_try = slot->barred_until = 0;
    slot->failures = 0;
    slot->caught_up = false;
    slot->latch = NULL;
    pg_atomic_uint32* narrow[] = {&slot->state, &slot->idle, &slot->leave, &slot->lost};
    for (pg_atomic_uint32* atomic : narrow)
        pg_atomic_init_u32(atomic, 0);
    // nobody knows what was wanted before
    pg_atomic_init_u32(&slot->backlog, BACKLOG_RULES);
    pg_atomic_init_u32(&slot->backlog_all, 1);
    pg_atomic_init_u64(&slot->offer_ends, (uint64)DT_NOEND);
    // head and tail go on: a stamp of the slot's earlier life must not be met again
    pg_atomic_uint64* wide[] = {&slot->put, &slot->taken, &slot->sent, &slot->skipped, &slot->lag};
    for (pg_atomic_uint64* atomic : wide)
        pg_atomic_init_u64(atomic, 0);
    pg_memory_barrier();
    slot->database = database;
}

void events_shmem_init(LWLock* events_lwlock, int backends) {
    bool found;
    lock = events_lwlock;
    EventShared* made = static_cast<EventShared*>(
        ShmemInitStruct("leadroute events", shared_size(backends), &found));
    if (!found) {
        made->incarnation = (uint64)GetCurrentTimestamp();
        made->backend_count = backends;
        made->ring_size = ring_bytes();
        pg_atomic_init_u64(&made->clock_high, 0);
        pg_atomic_init_u64(&made->clock_low, (uint64)DT_NOEND);
        for (EventSlot& slot : made->slots) {
            pg_atomic_init_u32(&slot.users, 0);
            pg_atomic_init_u64(&slot.head, 0);
            pg_atomic_init_u64(&slot.tail, 0);
            slot_reset(&slot, InvalidOid);
        }
        for (int i = 0; i < backends; i++)
            pg_atomic_init_u32(&made->publishing[i], InvalidTransactionId);
    }
    rings = static_cast<char*>(
        ShmemInitStruct("leadroute event rings", mul_size(made->ring_size, kEventSlots), &found));
    events = made;
}

LWLock* events_lock(void) {
    return lock;
}

uint64 events_incarnation(void) {
    return shared_ready() ? events->incarnation : 0;
}

// --- slots ---

// Frees a slot that nobody uses. The lock is held exclusively.
static bool slot_free(EventSlot* slot) {
    Oid database = slot->database;
    if (pg_atomic_read_u32(&slot->state) != WORKER_NONE || slot->pid != 0 ||
        !event_ring_empty(slot) || pg_atomic_read_u32(&slot->lost) != 0)
        return false;
    slot->database = InvalidOid;
    pg_memory_barrier();
    // whoever counts himself as a user after this finds that the slot is not his
    if (pg_atomic_read_u32(&slot->users) != 0) {
        slot->database = database;
        return false;
    }
    return true;
}

EventSlot* event_slot_find(Oid database, bool make) {
    EventSlot* chosen = NULL;
    for (EventSlot& slot : events->slots) {
        if (slot.database == database)
            return &slot;
        if (chosen == NULL && slot.database == InvalidOid && pg_atomic_read_u32(&slot.users) == 0)
            chosen = &slot;
    }
    if (!make)
        return NULL;
    for (int i = 0; i < kEventSlots && chosen == NULL; i++)
        if (slot_free(&events->slots[i]))
            chosen = &events->slots[i];
    if (chosen == NULL)
        return NULL;
    slot_reset(chosen, database);
    return chosen;
}

static EventSlot* mine; // a hint

EventSlot* event_slot_hint(void) {
    return mine != NULL && mine->database == MyDatabaseId ? mine : NULL;
}

EventSlot* event_slot_pin(void) {
    if (mine != NULL) {
        pg_atomic_fetch_add_u32(&mine->users, 1);
        if (mine->database == MyDatabaseId)
            return mine;
        pg_atomic_fetch_sub_u32(&mine->users, 1);
    }
    LWLockAcquire(lock, LW_EXCLUSIVE);
    mine = event_slot_find(MyDatabaseId, true);
    if (mine != NULL)
        pg_atomic_fetch_add_u32(&mine->users, 1);
    LWLockRelease(lock);
    return mine;
}

void event_slot_unpin(EventSlot* slot) {
    pg_atomic_fetch_sub_u32(&slot->users, 1);
}

void event_slot_wake(EventSlot* slot) {
    pg_memory_barrier(); // what it is woken for is to be seen before
    if (pg_atomic_read_u32(&slot->idle) == 0 || pg_atomic_exchange_u32(&slot->idle, 0) == 0)
        return;
    Latch* latch = slot->latch; // one that has another owner by now is woken for nothing
    if (latch != NULL)
        SetLatch(latch);
}

void event_slot_drain(EventSlot* slot) {
    pg_atomic_write_u64(&slot->tail, pg_atomic_read_u64(&slot->head));
    pg_atomic_write_u32(&slot->lost, 0);
}

// --- the ring of a slot ---

static char* ring_of(const EventSlot* slot) {
    return rings + (slot - events->slots) * events->ring_size;
}

static void copy_in(const EventSlot* slot, uint64 place, const void* bytes, Size size) {
    Size at = place % events->ring_size;
    Size first = Min(size, events->ring_size - at);
    memcpy(ring_of(slot) + at, bytes, first);
    memcpy(ring_of(slot), static_cast<const char*>(bytes) + first, size - first);
}

static void copy_out(const EventSlot* slot, uint64 place, void* bytes, Size size) {
    Size at = place % events->ring_size;
    Size first = Min(size, events->ring_size - at);
    memcpy(bytes, ring_of(slot) + at, first);
    memcpy(static_cast<char*>(bytes) + first, ring_of(slot), size - first);
}

static pg_atomic_uint64* stamp_at(const EventSlot* slot, uint64 place) {
    return reinterpret_cast<pg_atomic_uint64*>(ring_of(slot) + place % events->ring_size);
}

static uint64 stamp_for(uint64 place) {
    return (place + 1) * UINT64CONST(0x9E3779B97F4A7C15);
}

bool event_put(EventSlot* slot, const EventBatch* header, const char* bytes, Size size) {
    uint64 head = pg_atomic_read_u64(&slot->head);
    do {
        if (head + header->size - pg_atomic_read_u64(&slot->tail) > events->ring_size)
            return false;
    } while (!pg_atomic_compare_exchange_u64(&slot->head, &head, head + header->size));
    constexpr Size kStamp = sizeof(uint64);
    copy_in(slot, head + kStamp, reinterpret_cast<const char*>(header) + kStamp,
            sizeof(EventBatch) - kStamp);
    copy_in(slot, head + sizeof(EventBatch), bytes, size);
    pg_write_barrier();
    pg_atomic_write_u64(stamp_at(slot, head), stamp_for(head));
    return true;
}

Size event_take(EventSlot* slot, char* to, Size room) {
    uint64 tail = pg_atomic_read_u64(&slot->tail);
    if (tail == pg_atomic_read_u64(&slot->head) ||
        pg_atomic_read_u64(stamp_at(slot, tail)) != stamp_for(tail))
        return 0;
    pg_read_barrier();
    EventBatch header;
    copy_out(slot, tail, &header, sizeof(header));
    if (header.size > room)
        return header.size;
    copy_out(slot, tail, to, header.size);
    pg_memory_barrier();
    pg_atomic_write_u64(&slot->tail, tail + header.size);
    return header.size;
}

bool event_ring_empty(const EventSlot* slot) {
    EventSlot* s = const_cast<EventSlot*>(slot);
    return pg_atomic_read_u64(&s->tail) == pg_atomic_read_u64(&s->head);
}

// --- who is between commit and ring ---

void event_publishing(TransactionId xid) {
    pg_atomic_write_u32(&events->publishing[backend_index()], xid);
}

bool event_any_publishing(XidTest test, const void* context) {
    for (int i = 0; i < events->backend_count; i++) {
        TransactionId xid = pg_atomic_read_u32(&events->publishing[i]);
        if (TransactionIdIsValid(xid) && test(context, xid))
            return true;
    }
    return false;
}

// --- the clock ---

// Rows since a cursor are found by time; a clock that is set back would hide them.
void event_clock_note(TimestampTz at) {
    if (!shared_ready())
        return;
    TimestampTz high = (TimestampTz)pg_atomic_read_u64(&events->clock_high);
    if (at > high + USECS_PER_SEC) {
        pg_atomic_write_u64(&events->clock_high, (uint64)at);
        return;
    }
    if (at > high - kClockSlack)
        return;
    uint64 low = pg_atomic_read_u64(&events->clock_low);
    while (at < (TimestampTz)low)
        if (pg_atomic_compare_exchange_u64(&events->clock_low, &low, (uint64)at))
            return;
}

TimestampTz events_clock_low(void) {
    return shared_ready() ? (TimestampTz)pg_atomic_read_u64(&events->clock_low) : DT_NOEND;
}
