// Events: what listeners are told after a commit.
//
// A transaction gathers its events flat in its backend's memory (event_gather.cpp). The commit
// callback copies them into its database's ring in shared memory (event_ring.cpp), which takes no
// lock, allocates nothing and cannot fail; a full ring, or more events than are gathered, leaves
// the mark `lost` there instead. The database's background worker (notifier.cpp) sends what is in
// the ring, and derives what was lost from the record (event_cursor.cpp, sql/events.sql).
#pragma once

#include "leadroute.h"

#include "record.h"

// One event, or one for each of several reps. Ids of 0 are none. In memory the lead's key follows,
// not terminated, and aligned after it the reps, where there are several.
struct Event {
    uint32 size; // with the key, a multiple of 8
    int32 level; // nest level that gathered it
    int64 tenant;
    int64 rep;
    int64 rule;
    int64 manager; // of an alert: whose channel hears it
    int64 alert;   // its id
    TimestampTz at;
    TimestampTz due_at; // DT_NOEND: none
    int32 lead_table;
    int32 pool;
    int32 key_length; // -1: about no lead
    int32 rep_count;  // of those that follow; 0: `rep` alone, or none
    char kind[20];
};

inline const char* event_key(const Event* event) {
    return reinterpret_cast<const char*>(event + 1);
}

inline int64* event_reps(Event* event) {
    return reinterpret_cast<int64*>(reinterpret_cast<char*>(event + 1) +
                                    MAXALIGN(Max(event->key_length, 0)));
}
inline const int64* event_reps(const Event* event) {
    return event_reps(const_cast<Event*>(event));
}
inline int event_count(const Event* event) {
    return Max(event->rep_count, 1);
}

constexpr Size kLongestKey = 3000; // of a lead in the ring
// What a transaction gathers before it leaves its events to be derived.
constexpr Size kMostGathered = (Size)64 * 1024;

// --- gathering (event_gather.cpp); the callers are the record and the transaction's callbacks ---

void event_opened(const RecordRow* row);
// Of other rows; what is 0 or NULL is none.
struct ToldEvent {
    const char* kind;
    int64 tenant;
    TimestampTz at;
    TimestampTz due_at; // DT_NOEND: none
    int64 rep, rule;
    int64 manager, alert; // of an alert
    int32 lead_table, pool;
    const char* lead_id;
};
void event_told(const ToldEvent* told);
void events_before_commit(void); // may fail
void events_before_prepare(void);
void events_commit(void);              // cannot fail
void events_forget(void);              // abort, prepare
void events_keep(int level);           // a subtransaction of this level has committed
void events_drop(int level);           // ... has aborted
void event_clock_note(TimestampTz at); // a decision was made then

// --- shared memory (event_ring.cpp) ---

enum WorkerState { WORKER_NONE, WORKER_STARTING, WORKER_RUNNING };

// A database whose events are on their way. Fields that are not atomic are guarded by the lock.
struct EventSlot {
    Oid database;             // InvalidOid: free. Read without lock by who holds `users`
    int pid;                  // of the worker
    TimestampTz asked_at;     // when the worker was asked for
    TimestampTz next_try;     // no earlier, after none was to be had
    TimestampTz barred_until; // no worker while the database is dropped, renamed, copied
    int failures;             // to start a worker, in a row
    bool caught_up;           // a worker left after it had sent all
    pg_atomic_uint32 users;   // open transactions with events
    pg_atomic_uint32 state;   // WorkerState
    pg_atomic_uint32 idle;    // the worker sleeps and wants to be woken
    pg_atomic_uint32 leave;   // it is asked to leave
    pg_atomic_uint32 lost;    // events to be derived from the record
    pg_atomic_uint32 backlog; // BacklogLevel: of some tenants; of all where backlog_all is set
    pg_atomic_uint32 backlog_all;
    pg_atomic_uint64 offer_ends; // TimestampTz: when the next offer does; DT_NOEND: none is known
    Latch* latch;                // of the worker
    pg_atomic_uint64 head;       // bytes reserved by producers
    pg_atomic_uint64 tail;       // bytes taken by the worker
    pg_atomic_uint64 put;        // events that were committed
    pg_atomic_uint64 taken;      // events that were sent or skipped
    pg_atomic_uint64 sent;
    pg_atomic_uint64 skipped;
    pg_atomic_uint64 lag; // from commit to sending, microseconds, of the latest batch
};

// The events of one transaction in the ring, before them.
struct EventBatch {
    uint64 stamp; // tells by its place in the ring that the batch is complete
    uint32 size;  // with this header
    uint32 count;
    TransactionId xid;
    TimestampTz committed_at;
};

Size events_shmem_size(int backends);
void events_shmem_init(LWLock* lock, int backends);
LWLock* events_lock(void);

// This database's slot, counted as used by this transaction; NULL: all slots are taken by others.
EventSlot* event_slot_pin(void);
// The slot that this backend had last, if it is this database's still: it may become another's at
// any time. NULL: none.
EventSlot* event_slot_hint(void);
void event_slot_unpin(EventSlot* slot);
void event_slot_wake(EventSlot* slot);  // its worker, if it sleeps
void event_slot_drain(EventSlot* slot); // forgets what is there: the database is gone
// The slot of a database, or NULL; with `make` one is taken for it. The lock is held.
EventSlot* event_slot_find(Oid database, bool make);
bool event_put(EventSlot* slot, const EventBatch* header, const char* events, Size size);
// Copies the next complete batch, at most `room` bytes, and frees its place. 0: there is none;
// otherwise its size, which is more than `room` if it was not taken.
Size event_take(EventSlot* slot, char* to, Size room);
bool event_ring_empty(const EventSlot* slot);
uint64 events_incarnation(void); // of this shared memory; 0: there is none
// The earliest decision made since the clock was seen to have been set back.
TimestampTz events_clock_low(void);
// The xid this backend is committing whose events are not in the ring yet; 0: none.
void event_publishing(TransactionId xid);
// Visits the xids of all backends that are publishing.
typedef bool (*XidTest)(const void* context, TransactionId xid);
bool event_any_publishing(XidTest test, const void* context);

// --- text (event_text.cpp) ---

// Sends events, laid one after the other, as NOTIFY in this transaction; returns how many.
int events_send(const char* bytes, Size size);

// --- cursors (event_cursor.cpp): how far a reader has come ---

struct EventCursor;
EventCursor* event_cursor_now(TimestampTz since); // of the active snapshot, palloc'ed
EventCursor* event_cursor_parse(const char* text);
char* event_cursor_text(const EventCursor* cursor);
// True when what the transaction did is not seen by the cursor.
bool event_cursor_unseen(const EventCursor* cursor, TransactionId xid);

// --- the worker (notifier.cpp, notifier_leave.cpp) ---

void notifier_start(EventSlot* slot); // in a transaction; never fails
void notifier_init(void);             // from _PG_init
