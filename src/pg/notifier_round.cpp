// The rounds of the background worker that sends a database's events.
//
// A round takes a snapshot, moves the complete batches of the ring to memory of its own, and sends
// those that the snapshot sees. So the cursor, the last snapshot that was sent, has always seen
// what was sent and nothing else, and events that had to be left to the record (a full ring, a
// large transaction, a crash) are derived from there exactly: into a spool, which goes out in
// portions. For that no backend may be between its commit and its ring: such moments are waited
// out.
//
// The cursor is stored every few seconds; after a crash the events since are sent again.
#include "notifier.h"
#include "placement.h"
#include "shared.h"

extern "C" {
#include "storage/buffile.h"
#include "utils/fmgrprotos.h"
}

constexpr Size kTakeMost = (Size)4 * 1024 * 1024;
constexpr Size kChunk = (Size)256 * 1024; // derived events in one transaction
constexpr TimestampTz kStoreEvery = 5 * USECS_PER_SEC;
constexpr TimestampTz kBoundEvery = USECS_PER_SEC;
constexpr TimestampTz kComplainAfter = 10 * USECS_PER_SEC;

static EventCursor* cursor; // what it has seen is sent, or is in the spool
static TimestampTz since;   // bound for the next cursor
static TimestampTz since_at;
static TimestampTz stored_at;
static TimestampTz blocked_since;
static bool cursor_moved; // since it was stored

// Batches from the ring that are not sent yet. `taken` is replaced by `kept` once the round's
// transaction has committed.
struct Bytes {
    char* data;
    Size used;
    Size room;
};
static Bytes taken;
static Bytes kept;

static BufFile* spool; // derived events that are being sent
static int64 spool_left;
static char* chunk;
static Size chunk_used;
static int chunk_count;

// Of the round in progress.
static EventCursor* next_cursor;
static bool took_lost;

// For what outlives a transaction.
static MemoryContext memory(void) {
    static MemoryContext context = NULL;
    if (context == NULL)
        context =
            AllocSetContextCreate(TopMemoryContext, "leadroute notifier", ALLOCSET_DEFAULT_SIZES);
    return context;
}

static void need(Bytes* bytes, Size room) {
    if (room <= bytes->room)
        return;
    Size wanted = Max(Max(room, bytes->room * 2), (Size)65536);
    bytes->data = static_cast<char*>(bytes->data == NULL ? MemoryContextAllocHuge(memory(), wanted)
                                                         : repalloc_huge(bytes->data, wanted));
    bytes->room = wanted;
}

bool notifier_work_waits(void) {
    return !event_ring_empty(notifier_slot) || pg_atomic_read_u32(&notifier_slot->lost) != 0 ||
           taken.used > 0 || chunk_used > 0 || spool_left > 0;
}

bool notifier_is_orphan(void) {
    StartTransactionCommand();
    bool orphan = !OidIsValid(leadroute_schema());
    CommitTransactionCommand();
    return orphan;
}

bool notifier_store_due(bool leaving) {
    if (!cursor_moved || spool_left > 0 || chunk_used > 0)
        return false;
    TimestampTz now = GetCurrentTimestamp();
    return leaving || now - stored_at > kStoreEvery || now < stored_at;
}

// --- the cursor ---

// Runs one statement with at most one argument of type text.
static void execute(const char* statement, const char* argument, int expected) {
    Oid types[] = {TEXTOID};
    Datum values[1] = {(Datum)0};
    if (argument != NULL)
        values[0] = CStringGetTextDatum(argument);
    int result =
        SPI_execute_with_args(statement, argument == NULL ? 0 : 1, types, values, NULL, false, 0);
    if (result != expected)
        elog(ERROR, "%s: %s", statement, SPI_result_code_string(result));
}

static void read_bound(void) {
    TimestampTz now = GetCurrentTimestamp();
    if (since_at != 0 && now >= since_at && now - since_at < kBoundEvery)
        return;
    bool isnull;
    execute("SELECT leadroute._event_bound()", NULL, SPI_OK_SELECT);
    since = DatumGetTimestampTz(
        SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
    since_at = now;
}

static void read_cursor(void) {
    execute("SELECT c.cursor FROM leadroute.event_cursor c WHERE c.tenant = 0", NULL,
            SPI_OK_SELECT);
    char* text =
        SPI_processed == 0 ? NULL : SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
    MemoryContext caller = MemoryContextSwitchTo(memory());
    cursor = text == NULL ? event_cursor_now(since) : event_cursor_parse(text);
    MemoryContextSwitchTo(caller);
}

// In the transaction that sends what the cursor has seen.
static void store_cursor(const EventCursor* sent) {
    execute("INSERT INTO leadroute.event_cursor AS c (cursor) VALUES ($1)"
            " ON CONFLICT (tenant) DO UPDATE SET cursor = EXCLUDED.cursor,"
            " stored_at = EXCLUDED.stored_at",
            event_cursor_text(sent), SPI_OK_INSERT);
}

// --- what the ring holds ---

static void take_batches(void) {
    need(&taken, 65536);
    while (taken.used < kTakeMost) {
        Size size = event_take(notifier_slot, taken.data + taken.used, taken.room - taken.used);
        if (size == 0)
            return;
        if (size <= taken.room - taken.used)
            taken.used += size;
        else
            need(&taken, taken.used + size);
    }
}

static bool is_seen(const void* by, TransactionId xid) {
    return !event_cursor_unseen(static_cast<const EventCursor*>(by), xid);
}

static bool queue_is_full(void) {
    LOCAL_FCINFO(fcinfo, 0);
    InitFunctionCallInfoData(*fcinfo, NULL, 0, InvalidOid, NULL, NULL);
    return DatumGetFloat8(pg_notification_queue_usage(fcinfo)) > leadroute_notify_queue_limit;
}

struct Sent {
    int events;
    int skipped;
    TimestampTz oldest;
};

static void send(const char* bytes, Size size, int count, Sent* done) {
    if (count == 0)
        return;
    if (queue_is_full()) {
        done->skipped += count;
        return;
    }
    (void)events_send(bytes, size);
    done->events += count;
}

// Sends what `next` sees and the cursor does not, unless that is derived; keeps what it does not
// see.
static void send_taken(const EventCursor* next, bool derived, Sent* done) {
    char* bytes = static_cast<char*>(palloc_extended(Max(taken.used, (Size)1), MCXT_ALLOC_HUGE));
    Size used = 0;
    int count = 0;
    kept.used = 0;
    need(&kept, taken.used);
    for (Size at = 0; at < taken.used;) {
        EventBatch batch;
        memcpy(&batch, taken.data + at, sizeof(batch));
        if (!is_seen(next, batch.xid)) {
            memcpy(kept.data + kept.used, taken.data + at, batch.size);
            kept.used += batch.size;
        } else if (!derived && !is_seen(cursor, batch.xid)) {
            memcpy(bytes + used, taken.data + at + sizeof(batch), batch.size - sizeof(batch));
            used += batch.size - sizeof(batch);
            count += (int)batch.count;
            if (done->oldest == 0)
                done->oldest = batch.committed_at;
        }
        at += batch.size;
    }
    send(bytes, used, count, done);
}

// --- deriving what was lost ---

static Datum field(HeapTuple row, int number, bool* isnull) {
    Datum value = SPI_getbinval(row, SPI_tuptable->tupdesc, number, isnull);
    return *isnull ? (Datum)0 : value;
}

// A row of leadroute._events().
static void spool_row(HeapTuple row) {
    bool isnull;
    Datum key = field(row, 4, &isnull);
    const char* lead = isnull ? NULL : TextDatumGetCString(key);
    int length = lead == NULL ? 0 : (int)strlen(lead);
    Size size = MAXALIGN(sizeof(Event) + length);
    Event* event = static_cast<Event*>(palloc0(size));
    event->size = (uint32)size;
    event->key_length = lead == NULL ? -1 : length;
    if (lead != NULL)
        memcpy(const_cast<char*>(event_key(event)), lead, length);
    strlcpy(event->kind, TextDatumGetCString(field(row, 1, &isnull)), sizeof(event->kind));
    event->tenant = DatumGetInt64(field(row, 2, &isnull));
    event->lead_table = DatumGetInt32(field(row, 3, &isnull));
    event->rep = DatumGetInt64(field(row, 5, &isnull));
    event->pool = DatumGetInt32(field(row, 6, &isnull));
    event->rule = DatumGetInt64(field(row, 7, &isnull));
    event->at = DatumGetTimestampTz(field(row, 8, &isnull));
    Datum due = field(row, 9, &isnull);
    event->due_at = isnull ? DT_NOEND : DatumGetTimestampTz(due);
    event->manager = DatumGetInt64(field(row, 10, &isnull));
    event->alert = DatumGetInt64(field(row, 11, &isnull));
    BufFileWrite(spool, event, size);
    spool_left += (int64)size;
    pfree(event);
}

// Writes to the spool what the transaction's snapshot sees and the cursor does not.
static void derive(void) {
    MemoryContext caller = MemoryContextSwitchTo(memory());
    spool = BufFileCreateTemp(true);
    MemoryContextSwitchTo(caller);
    spool_left = 0;
    Oid types[] = {TEXTOID};
    Datum values[] = {CStringGetTextDatum(event_cursor_text(cursor))};
    // old ones are of no use to who listens now; events_since() has them
    Portal portal = SPI_cursor_open_with_args(
        NULL,
        "SELECT * FROM leadroute._events($1, NULL) e"
        " WHERE e.at > pg_catalog.clock_timestamp() - interval '1 day' ORDER BY e.at",
        1, types, values, NULL, true, 0);
    for (;;) {
        SPI_cursor_fetch(portal, true, 1000);
        for (uint64 i = 0; i < SPI_processed; i++)
            spool_row(SPI_tuptable->vals[i]);
        if (SPI_processed == 0)
            break;
        SPI_freetuptable(SPI_tuptable);
    }
    SPI_cursor_close(portal);
    if (BufFileSeek(spool, 0, 0, SEEK_SET) != 0)
        elog(ERROR, "cannot rewind the spool of events");
}

static void spool_close(void) {
    if (spool != NULL)
        BufFileClose(spool);
    spool = NULL;
    spool_left = 0;
}

static void spool_read(void* to, Size size) {
    if (BufFileRead(spool, to, size) != size)
        elog(ERROR, "cannot read the spool of events");
}

// Reads whole events from the spool until the chunk is full.
static void read_chunk(void) {
    if (chunk == NULL)
        chunk = static_cast<char*>(MemoryContextAlloc(memory(), kChunk));
    chunk_count = 0;
    while (chunk_used + sizeof(Event) + kLongestKey < kChunk && spool_left > 0) {
        Event event;
        spool_read(&event, sizeof(event));
        spool_left -= event.size;
        if (event.size > sizeof(Event) + kLongestKey) { // no listener can be told such a key
            int skip = (int)(event.size - sizeof(Event));
            char* rest = static_cast<char*>(palloc(skip));
            spool_read(rest, skip);
            pfree(rest);
            event.size = sizeof(Event);
            event.key_length = -1;
        }
        memcpy(chunk + chunk_used, &event, sizeof(event));
        spool_read(chunk + chunk_used + sizeof(event), event.size - sizeof(event));
        chunk_used += event.size;
        chunk_count++;
    }
}

// --- a round ---

static void begin(void) {
    SetCurrentStatementStartTimestamp();
    StartTransactionCommand();
    PushActiveSnapshot(GetTransactionSnapshot());
    SPI_connect();
}

static void commit(void) {
    SPI_finish();
    PopActiveSnapshot();
    CommitTransactionCommand();
}

static void account(const Sent* done) {
    pg_atomic_fetch_add_u64(&notifier_slot->sent, done->events);
    pg_atomic_fetch_add_u64(&notifier_slot->skipped, done->skipped);
    if (done->oldest != 0)
        pg_atomic_write_u64(&notifier_slot->lag,
                            (uint64)Max(GetCurrentTimestamp() - done->oldest, 0));
}

static void account_taken(const Sent* done) {
    if (spool_left == 0 && chunk_used == 0 && taken.used == 0 && event_ring_empty(notifier_slot))
        pg_atomic_write_u64(&notifier_slot->taken, pg_atomic_read_u64(&notifier_slot->put));
    else
        pg_atomic_fetch_add_u64(&notifier_slot->taken, done->events + done->skipped);
}

static int spool_round(void) {
    begin();
    if (chunk_used == 0)
        read_chunk();
    Sent done = {0, 0, 0};
    send(chunk, chunk_used, chunk_count, &done);
    commit();
    chunk_used = 0;
    if (spool_left == 0)
        spool_close();
    account(&done);
    account_taken(&done);
    return chunk_count;
}

// Whoever `next` sees has put its events into the ring. It takes a backend no time after its
// commit, unless the machine takes it away.
static bool settled(const EventCursor* next) {
    if (!event_any_publishing(is_seen, next)) {
        blocked_since = 0;
        return true;
    }
    TimestampTz now = GetCurrentTimestamp();
    if (blocked_since == 0)
        blocked_since = now;
    if (now - blocked_since > kComplainAfter) {
        ereport(LOG, (errmsg("events wait for a process that has committed and does not go on")));
        blocked_since = now;
    }
    return false;
}

// Takes what `next` sees from the ring, or decides to derive it. False: it is not complete yet.
static bool gather(const EventCursor* next) {
    if (!settled(next))
        return false;
    uint64 head = pg_atomic_read_u64(&notifier_slot->head);
    took_lost = pg_atomic_exchange_u32(&notifier_slot->lost, 0) != 0 || took_lost;
    take_batches();
    if (taken.used >= kTakeMost) { // sending has been impossible for long
        taken.used = 0;
        took_lost = true;
    }
    return took_lost || pg_atomic_read_u64(&notifier_slot->tail) >= head;
}

static void finish_round(bool stored, const Sent* done) {
    pfree(cursor);
    cursor = next_cursor;
    next_cursor = NULL;
    took_lost = false;
    cursor_moved = !stored;
    if (stored)
        stored_at = GetCurrentTimestamp();
    Bytes sent = taken;
    taken = kept;
    kept = sent;
    account(done);
    account_taken(done);
}

static int ring_round(bool store) {
    begin();
    read_bound();
    if (cursor == NULL)
        read_cursor();
    MemoryContext caller = MemoryContextSwitchTo(memory());
    next_cursor = event_cursor_now(since);
    MemoryContextSwitchTo(caller);
    if (!gather(next_cursor)) {
        pfree(next_cursor);
        next_cursor = NULL;
        commit();
        return -1;
    }
    Sent done = {0, 0, 0};
    if (took_lost)
        derive();
    send_taken(next_cursor, took_lost, &done);
    store = store && spool_left == 0;
    if (store)
        store_cursor(next_cursor);
    commit();
    if (spool_left == 0)
        spool_close();
    finish_round(store, &done);
    return done.events;
}

int notifier_round(bool store) {
    return chunk_used > 0 || spool_left > 0 ? spool_round() : ring_round(store);
}

void notifier_round_failed(void) {
    if (next_cursor == NULL)
        return;
    pfree(next_cursor); // it was a round over the ring
    next_cursor = NULL;
    if (took_lost)
        spool_close();
}
