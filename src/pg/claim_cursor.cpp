// Claim cursors; see claim_cursor.h.
#include "claim_cursor.h"

extern "C" {
#include "common/pg_prng.h"
#include "storage/condition_variable.h"
#include "utils/wait_event.h"
}

constexpr int kCursors = 64;
constexpr int kFirstBatch = 32;
constexpr TimestampTz kFreshFor = USECS_PER_SEC;
constexpr TimestampTz kIdleAfter = 10 * USECS_PER_SEC; // may be another queue's then

struct CursorRow {
    ItemPointerData row;
    bool free; // not handed out
};

struct ClaimCursor {
    // changed under both locks
    bool used;
    ClaimQueue queue;
    // under the cursor's
    TimestampTz last_used;
    TimestampTz fresh_at; // when it was last read from the front
    uint64 restarts;      // how often it was told to begin anew
    uint64 restarted;     // as of the rows that are here
    uint64 tails;         // how often leads came behind what is here
    uint64 layout;        // positions are of one layout
    bool at_end;
    bool has_last;
    bool reading; // a session reads for it; the others' turn comes with `read`
    bool met;     // a lead came meanwhile, this one the first
    ClaimPlace met_first;
    ClaimPlace last;
    ConditionVariable read;
    int batch; // rows to read at a time: more while they are all used, fewer while they are not
    int first; // before it no row is free
    int count;
    int free;
    CursorRow row[kClaimEntries];
};

struct ClaimCursors {
    pg_atomic_uint32 in_use;
    ClaimCursor cursor[kCursors];
};

static ClaimCursors* cursors;
static LWLockPadded* locks; // the directory's, then one per cursor

// Of this transaction.
constexpr int kArrivals = 16;
struct Arrival {
    ClaimQueue queue;
    ClaimPlace first;
};
static Arrival arrivals[kArrivals];
static int arrival_count;
static bool arrivals_lost; // there was no room: all cursors begin anew
static uint64 touched;     // cursors that rows were taken from, or read for
static int reading_for = -1;

static LWLock* directory_lock(void) {
    return &locks[0].lock;
}

static LWLock* cursor_lock(int i) {
    return &locks[1 + i].lock;
}

Size claim_cursors_size(void) {
    return MAXALIGN(sizeof(ClaimCursors));
}

void claim_cursors_request(void) {
    RequestNamedLWLockTranche("leadroute_claims", 1 + kCursors);
}

void claim_cursors_startup(void) {
    bool found;
    locks = GetNamedLWLockTranche("leadroute_claims");
    cursors = static_cast<ClaimCursors*>(
        ShmemInitStruct("leadroute claims", claim_cursors_size(), &found));
    if (found)
        return;
    memset(static_cast<void*>(cursors), 0, sizeof(*cursors));
    pg_atomic_init_u32(&cursors->in_use, 0);
    for (ClaimCursor& cursor : cursors->cursor)
        ConditionVariableInit(&cursor.read);
}

bool claim_cursors_in_use(void) {
    return cursors != NULL && pg_atomic_read_u32(&cursors->in_use) > 0;
}

static bool same_queue(const ClaimQueue* a, const ClaimQueue* b) {
    return a->pool == b->pool && a->tank == b->tank && same_key(&a->key, &b->key);
}

int compare_places(const ClaimPlace* a, const ClaimPlace* b) {
    if (a->place != b->place)
        return a->place < b->place ? -1 : 1;
    int by_score = float8_cmp_internal(a->minus_score, b->minus_score);
    if (by_score != 0 || a->since == b->since)
        return by_score;
    return a->since < b->since ? -1 : 1;
}

// --- which queue has which cursor ---

// The directory's lock is held.
static int find(const ClaimQueue* queue) {
    for (int i = 0; i < kCursors; i++)
        if (cursors->cursor[i].used && same_queue(&cursors->cursor[i].queue, queue))
            return i;
    return -1;
}

// Empties a cursor; both locks are held.
static void assign(ClaimCursor* cursor, const ClaimQueue* queue, TimestampTz now) {
    cursor->used = queue != NULL;
    if (queue != NULL)
        cursor->queue = *queue;
    cursor->last_used = now;
    cursor->fresh_at = 0;
    cursor->restarts++;
    cursor->layout++;
    cursor->at_end = cursor->has_last = false;
    cursor->batch = kFirstBatch;
    cursor->first = cursor->count = cursor->free = 0;
}

// One that is free, or else the one that was used least recently, if it is idle; -1: none.
static int choose(TimestampTz now) {
    int oldest = -1;
    for (int i = 0; i < kCursors; i++) {
        const ClaimCursor* cursor = &cursors->cursor[i];
        if (!cursor->used)
            return i;
        // looked at without its lock: it is looked at again
        if (oldest < 0 || cursor->last_used < cursors->cursor[oldest].last_used)
            oldest = i;
    }
    return cursors->cursor[oldest].last_used < now - kIdleAfter ? oldest : -1;
}

static int make(const ClaimQueue* queue, TimestampTz now) {
    LWLockAcquire(directory_lock(), LW_EXCLUSIVE);
    int i = find(queue);
    if (i < 0 && (i = choose(now)) >= 0) {
        ClaimCursor* cursor = &cursors->cursor[i];
        LWLockAcquire(cursor_lock(i), LW_EXCLUSIVE);
        bool made = !cursor->reading;
        if (made) {
            // before its first reading: a lead that came earlier is read
            if (!cursor->used)
                pg_atomic_fetch_add_u32(&cursors->in_use, 1);
            assign(cursor, queue, now);
        }
        LWLockRelease(cursor_lock(i));
        if (!made)
            i = -1;
    }
    LWLockRelease(directory_lock());
    return i;
}

static int find_or_make(const ClaimQueue* queue, TimestampTz now) {
    LWLockAcquire(directory_lock(), LW_SHARED);
    int i = find(queue);
    LWLockRelease(directory_lock());
    return i >= 0 ? i : make(queue, now);
}

void claim_cursors_drop(const TenantKey* key) {
    if (!claim_cursors_in_use())
        return;
    LWLockAcquire(directory_lock(), LW_EXCLUSIVE);
    for (int i = 0; i < kCursors; i++) {
        ClaimCursor* cursor = &cursors->cursor[i];
        if (!cursor->used || !same_key(&cursor->queue.key, key))
            continue;
        LWLockAcquire(cursor_lock(i), LW_EXCLUSIVE);
        ClaimQueue queue = cursor->queue;
        bool keep = cursor->reading;
        assign(cursor, keep ? &queue : NULL, 0);
        if (!keep)
            pg_atomic_fetch_sub_u32(&cursors->in_use, 1);
        LWLockRelease(cursor_lock(i));
    }
    LWLockRelease(directory_lock());
}

// --- filling ---

static void stop_reading(void) {
    if (reading_for < 0)
        return;
    ClaimCursor* cursor = &cursors->cursor[reading_for];
    LWLockAcquire(cursor_lock(reading_for), LW_EXCLUSIVE);
    cursor->reading = false;
    LWLockRelease(cursor_lock(reading_for));
    reading_for = -1;
    ConditionVariableBroadcast(&cursor->read);
}

// Drops the rows that were handed out; where `position` is now.
static int compact(ClaimCursor* cursor, int position) {
    int kept = 0, moved = 0;
    for (int i = cursor->first; i < cursor->count; i++) {
        if (!cursor->row[i].free)
            continue;
        if (i < position)
            moved = kept + 1;
        cursor->row[kept++] = cursor->row[i];
    }
    cursor->first = 0;
    cursor->count = kept;
    cursor->layout++;
    return moved;
}

// Adds what was read. A lead that came meanwhile may be missing.
static void append(ClaimCursor* cursor, const ClaimRows* rows) {
    for (int i = 0; i < rows->count; i++)
        cursor->row[cursor->count++] = {rows->row[i], true};
    cursor->free += rows->count;
    if (rows->count > 0)
        cursor->last = rows->last;
    cursor->has_last = cursor->has_last || rows->count > 0;
    if (cursor->met && cursor->has_last && compare_places(&cursor->met_first, &cursor->last) <= 0)
        cursor->restarts++;
}

// What a reading is begun with.
struct Reading {
    bool fresh;
    uint64 restarts, tails;
    int most;
    bool has_after;
    ClaimPlace after;
};

// The cursor's lock is held.
static Reading begin_reading(ClaimWalk* walk, bool fresh) {
    ClaimCursor* cursor = &cursors->cursor[walk->cursor];
    // a place that cannot be gone on from, the lead's key being too long
    fresh = fresh || !cursor->has_last || cursor->last.lead_id[0] == '\0';
    bool told = cursor->restarts != cursor->restarted;
    cursor->batch = !fresh ? Min(cursor->batch * 2, kClaimEntries)
                    : told ? Max(cursor->batch / 2, kFirstBatch)
                           : cursor->batch;
    Reading reading = {};
    reading.fresh = fresh;
    reading.restarts = cursor->restarts;
    reading.tails = cursor->tails;
    reading.most = fresh ? cursor->batch : Min(cursor->batch, kClaimEntries - cursor->free);
    reading.has_after = !fresh;
    if (!fresh)
        reading.after = cursor->last;
    cursor->reading = true;
    cursor->met = false;
    reading_for = walk->cursor;
    touched |= UINT64CONST(1) << walk->cursor;
    return reading;
}

static void end_reading(ClaimWalk* walk, const Reading* reading, const ClaimRows* rows) {
    ClaimCursor* cursor = &cursors->cursor[walk->cursor];
    LWLockAcquire(cursor_lock(walk->cursor), LW_EXCLUSIVE);
    bool same = walk->layout == cursor->layout;
    if (reading->fresh) {
        cursor->first = cursor->count = cursor->free = 0;
        cursor->has_last = false;
        cursor->layout++;
        append(cursor, rows);
        cursor->restarted = reading->restarts;
        cursor->fresh_at = walk->now;
        walk->next = 0;
        same = true;
    } else if (cursor->free + rows->count <= kClaimEntries) { // rows were put back meanwhile, else
        int next = compact(cursor, same ? walk->next : 0);
        append(cursor, rows);
        walk->next = next;
        same = true;
    }
    if (same)
        walk->layout = cursor->layout;
    cursor->at_end = rows->at_end && cursor->tails == reading->tails;
    LWLockRelease(cursor_lock(walk->cursor));
    stop_reading();
}

// --- walking ---

static bool has_own_arrivals(const ClaimQueue* queue) {
    for (int i = 0; i < arrival_count; i++)
        if (same_queue(&arrivals[i].queue, queue))
            return true;
    return arrivals_lost;
}

bool claim_walk_start(ClaimWalk* walk, const ClaimQueue* queue, TimestampTz now) {
    *walk = {queue, now, false, -1, 0, 0, -1, false, false, false};
    if (cursors == NULL || has_own_arrivals(queue))
        return false;
    walk->cursor = find_or_make(queue, now);
    return walk->cursor >= 0;
}

bool claim_cursor_told(const ClaimQueue* queue, uint64* told) {
    if (cursors == NULL || has_own_arrivals(queue))
        return false;
    LWLockAcquire(directory_lock(), LW_SHARED);
    int i = find(queue);
    if (i >= 0) {
        LWLockAcquire(cursor_lock(i), LW_SHARED);
        *told = cursors->cursor[i].restarts + cursors->cursor[i].tails;
        LWLockRelease(cursor_lock(i));
        touched |= UINT64CONST(1) << i; // what is taken from there comes back by a rollback
    }
    LWLockRelease(directory_lock());
    return i >= 0;
}

enum class Step { row, none, wait, go_on, begin_anew, lost };

// The cursor's lock is held.
static int next_free(const ClaimCursor* cursor, const ClaimWalk* walk) {
    int from = Max(walk->next, cursor->first);
    int rest = cursor->count - from;
    int start = walk->any_order && rest > 0
                    ? (int)pg_prng_uint64_range(&pg_global_prng_state, 0, (uint64)rest - 1)
                    : 0;
    for (int i = 0; i < rest; i++) {
        int at = from + (start + i) % rest;
        if (cursor->row[at].free)
            return at;
    }
    return -1;
}

static void hand_out(ClaimCursor* cursor, ClaimWalk* walk, int at, ItemPointer row) {
    *row = cursor->row[at].row;
    cursor->row[at].free = false;
    cursor->free--;
    while (cursor->first < cursor->count && !cursor->row[cursor->first].free)
        cursor->first++;
    walk->held = at;
    walk->next = walk->any_order ? 0 : at + 1;
    touched |= UINT64CONST(1) << walk->cursor;
}

// The cursor's lock is held.
static Step next_step(ClaimCursor* cursor, ClaimWalk* walk, ItemPointer row) {
    if (!cursor->used || !same_queue(&cursor->queue, walk->queue))
        return Step::lost;
    cursor->last_used = walk->now;
    if (cursor->restarts != cursor->restarted)
        return cursor->reading ? Step::wait : Step::begin_anew;
    if (walk->layout != cursor->layout) {
        walk->layout = cursor->layout;
        walk->next = 0;
    }
    if (!cursor->reading) {
        if (walk->now - cursor->fresh_at >= kFreshFor || cursor->fresh_at - walk->now >= kFreshFor)
            return Step::begin_anew;
        // in good time, while others are served from what is left
        if (!cursor->at_end && cursor->free <= cursor->batch / 4)
            return Step::go_on;
    }
    int at = next_free(cursor, walk);
    if (at >= 0) {
        hand_out(cursor, walk, at, row);
        return Step::row;
    }
    walk->empty = cursor->at_end && !cursor->has_last;
    if (cursor->at_end || cursor->free == kClaimEntries)
        return Step::none;
    return cursor->reading ? Step::wait : Step::go_on;
}

bool claim_walk_next(ClaimWalk* walk, ClaimReader read, void* context, ItemPointer row) {
    static ClaimRows rows;
    ClaimCursor* cursor = &cursors->cursor[walk->cursor];
    walk->held = -1;
    for (;;) {
        Reading reading = {};
        LWLockAcquire(cursor_lock(walk->cursor), LW_EXCLUSIVE);
        Step step = next_step(cursor, walk, row);
        bool reads = step == Step::go_on || step == Step::begin_anew;
        walk->stopped = reads && !walk->can_read;
        if (reads && walk->can_read)
            reading = begin_reading(walk, step == Step::begin_anew);
        LWLockRelease(cursor_lock(walk->cursor));
        if (walk->stopped || step == Step::row || step == Step::none || step == Step::lost) {
            ConditionVariableCancelSleep();
            return step == Step::row;
        }
        if (step == Step::wait) {
            // the first time it is but prepared for, and looked again
            ConditionVariableSleep(&cursor->read, PG_WAIT_EXTENSION);
            continue;
        }
        ConditionVariableCancelSleep();
        rows.count = 0;
        read(context, reading.has_after ? &reading.after : NULL, reading.most, &rows);
        end_reading(walk, &reading, &rows);
    }
}

static void begin_anew(int i) {
    LWLockAcquire(cursor_lock(i), LW_EXCLUSIVE);
    cursors->cursor[i].restarts++;
    LWLockRelease(cursor_lock(i));
}

void claim_walk_put_back(ClaimWalk* walk) {
    ClaimCursor* cursor = &cursors->cursor[walk->cursor];
    LWLockAcquire(cursor_lock(walk->cursor), LW_EXCLUSIVE);
    if (cursor->layout == walk->layout) {
        cursor->row[walk->held].free = true;
        cursor->free++;
        cursor->first = Min(cursor->first, walk->held);
    } else {
        cursor->restarts++; // the rows have moved
    }
    LWLockRelease(cursor_lock(walk->cursor));
    walk->held = -1;
    if (walk->any_order) { // not at random again, which might be the same one
        walk->any_order = false;
        walk->next = 0;
    }
}

// --- leads that come, and the end of the transaction ---

void claim_cursor_arrived(const ClaimQueue* queue, const ClaimPlace* place) {
    for (int i = 0; i < arrival_count; i++) {
        if (!same_queue(&arrivals[i].queue, queue))
            continue;
        if (compare_places(place, &arrivals[i].first) < 0)
            arrivals[i].first = *place;
        return;
    }
    if (arrival_count == kArrivals)
        arrivals_lost = true;
    else
        arrivals[arrival_count++] = {*queue, *place};
}

static void tell(const Arrival* arrival) {
    LWLockAcquire(directory_lock(), LW_SHARED);
    int i = find(&arrival->queue);
    if (i >= 0) {
        ClaimCursor* cursor = &cursors->cursor[i];
        LWLockAcquire(cursor_lock(i), LW_EXCLUSIVE);
        cursor->tails++;
        cursor->at_end = false;
        if (cursor->has_last && compare_places(&arrival->first, &cursor->last) <= 0)
            cursor->restarts++;
        if (cursor->reading &&
            (!cursor->met || compare_places(&arrival->first, &cursor->met_first) < 0)) {
            cursor->met = true;
            cursor->met_first = arrival->first;
        }
        LWLockRelease(cursor_lock(i));
    }
    LWLockRelease(directory_lock());
}

void claim_cursors_commit(void) {
    if (arrival_count == 0 && !arrivals_lost)
        return;
    // a cursor made after this was looked at is read after the commit
    pg_memory_barrier();
    if (!claim_cursors_in_use())
        return;
    for (int i = 0; i < arrival_count; i++)
        tell(&arrivals[i]);
    for (int i = 0; arrivals_lost && i < kCursors; i++)
        begin_anew(i);
}

void claim_cursors_abort(void) {
    if (touched == 0)
        return;
    stop_reading();
    for (int i = 0; i < kCursors; i++)
        if (touched & (UINT64CONST(1) << i))
            begin_anew(i);
}

void claim_cursors_forget(void) {
    arrival_count = 0;
    arrivals_lost = false;
    touched = 0;
}
