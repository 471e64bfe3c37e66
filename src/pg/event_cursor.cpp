// Cursors over the record: which transactions a reader has seen, so that what an earlier one
// commits late is not missed.
//
// As text: cluster, incarnation of shared memory, a time before which no unseen row was decided,
// and the snapshot: xmin, xmax and the transactions, subtransactions included, in progress between
// them. Transactions of another cluster (after a restore) say nothing: there the time alone counts.
#include "events.h"
#include "shared.h"

constexpr TimestampTz kRestartSlack = 2 * USECS_PER_DAY; // a clock may be off by so much

struct EventCursor {
    uint64 cluster;
    uint64 incarnation;
    TimestampTz since;
    uint64 xmin; // all before are seen
    uint64 xmax; // none from here on is
    int count;
    uint64 unseen[FLEXIBLE_ARRAY_MEMBER]; // ascending
};

// The transaction's id with its epoch: the latest that is not in the future.
static uint64 full_xid(TransactionId xid, FullTransactionId next) {
    uint64 epoch = EpochFromFullTransactionId(next);
    if (xid > XidFromFullTransactionId(next) && epoch > 0)
        epoch--;
    return (epoch << 32) | xid;
}

static int compare_xid(const void* a, const void* b) {
    uint64 x = *static_cast<const uint64*>(a);
    uint64 y = *static_cast<const uint64*>(b);
    return x < y ? -1 : (x > y ? 1 : 0);
}

static EventCursor* make(int count) {
    return static_cast<EventCursor*>(
        palloc0(offsetof(EventCursor, unseen) + sizeof(uint64) * Max(count, 1)));
}

EventCursor* event_cursor_now(TimestampTz since) {
    Snapshot snapshot = GetActiveSnapshot();
    FullTransactionId next = ReadNextFullTransactionId();
    EventCursor* cursor = make((int)snapshot->xcnt + snapshot->subxcnt);
    cursor->cluster = GetSystemIdentifier();
    cursor->incarnation = events_incarnation();
    cursor->since = since;
    cursor->xmin = full_xid(snapshot->xmin, next);
    cursor->xmax = full_xid(snapshot->xmax, next);
    // subtransactions that the snapshot does not name could be any
    if (snapshot->suboverflowed)
        cursor->xmax = cursor->xmin;
    // the snapshot does not name our own transaction
    TransactionId own = GetTopTransactionIdIfAny();
    if (TransactionIdIsValid(own))
        cursor->xmax = Min(cursor->xmax, full_xid(own, next));
    cursor->xmin = Min(cursor->xmin, cursor->xmax);
    for (uint32 i = 0; i < snapshot->xcnt; i++)
        cursor->unseen[cursor->count++] = full_xid(snapshot->xip[i], next);
    for (int32 i = 0; i < snapshot->subxcnt; i++)
        cursor->unseen[cursor->count++] = full_xid(snapshot->subxip[i], next);
    qsort(cursor->unseen, cursor->count, sizeof(uint64), compare_xid);
    while (cursor->count > 0 && cursor->unseen[cursor->count - 1] >= cursor->xmax)
        cursor->count--;
    return cursor;
}

char* event_cursor_text(const EventCursor* cursor) {
    StringInfoData text;
    initStringInfo(&text);
    appendStringInfo(&text, "1.%llx.%llx.%llx.%llx.%llx", (unsigned long long)cursor->cluster,
                     (unsigned long long)cursor->incarnation, (unsigned long long)cursor->since,
                     (unsigned long long)cursor->xmin, (unsigned long long)cursor->xmax);
    for (int i = 0; i < cursor->count; i++)
        appendStringInfo(&text, ".%llx", (unsigned long long)cursor->unseen[i]);
    return text.data;
}

// The next number of the text; false: there is none.
static bool next_number(const char** text, uint64* number) {
    if (**text != '.')
        return false;
    char* end;
    errno = 0;
    *number = strtoull(*text + 1, &end, 16);
    bool good = errno == 0 && end != *text + 1 && isxdigit((unsigned char)(*text)[1]);
    *text = end;
    return good;
}

EventCursor* event_cursor_parse(const char* text) {
    int dots = 0;
    for (const char* c = text; *c != '\0'; c++)
        dots += *c == '.';
    EventCursor* cursor = make(dots);
    uint64 since = 0;
    const char* at = text + 1;
    bool good = text[0] == '1' && next_number(&at, &cursor->cluster) &&
                next_number(&at, &cursor->incarnation) && next_number(&at, &since) &&
                next_number(&at, &cursor->xmin) && next_number(&at, &cursor->xmax);
    while (good && *at != '\0') {
        good = next_number(&at, &cursor->unseen[cursor->count]) &&
               (cursor->count == 0 ||
                cursor->unseen[cursor->count - 1] < cursor->unseen[cursor->count]);
        cursor->count++;
    }
    cursor->since = (TimestampTz)since;
    if (!good)
        ereport(ERROR, (errcode(ERRCODE_LR_CONFIGURATION), errmsg("\"%s\" is no cursor", text),
                        errhint("Give the next_cursor of an earlier call of "
                                "leadroute.events_since(), or NULL for all events.")));
    return cursor;
}

static bool unseen_full(const EventCursor* cursor, uint64 xid) {
    if (xid < cursor->xmin)
        return false;
    return xid >= cursor->xmax ||
           bsearch(&xid, cursor->unseen, cursor->count, sizeof(uint64), compare_xid) != NULL;
}

bool event_cursor_unseen(const EventCursor* cursor, TransactionId xid) {
    if (!TransactionIdIsNormal(xid))
        return false;
    return unseen_full(cursor, full_xid(xid, ReadNextFullTransactionId()));
}

// A cursor argument, parsed once for all rows of a statement.
struct KnownCursor {
    EventCursor* cursor;
    char* text;
    FullTransactionId next;
};

static KnownCursor* argument(FunctionCallInfo fcinfo) {
    text* given = PG_GETARG_TEXT_PP(0);
    Size length = VARSIZE_ANY_EXHDR(given);
    KnownCursor* known = static_cast<KnownCursor*>(fcinfo->flinfo->fn_extra);
    if (known != NULL && strlen(known->text) == length &&
        memcmp(known->text, VARDATA_ANY(given), length) == 0)
        return known;
    MemoryContext caller = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);
    known = static_cast<KnownCursor*>(palloc(sizeof(KnownCursor)));
    known->text = text_to_cstring(given);
    known->cursor = event_cursor_parse(known->text);
    known->next = ReadNextFullTransactionId();
    MemoryContextSwitchTo(caller);
    fcinfo->flinfo->fn_extra = known;
    return known;
}

extern "C" {
PG_FUNCTION_INFO_V1(leadroute_cursor);
PG_FUNCTION_INFO_V1(leadroute_cursor_since);
PG_FUNCTION_INFO_V1(leadroute_cursor_unseen);

// _cursor(since timestamptz) -> text: of the statement's snapshot.
Datum leadroute_cursor(PG_FUNCTION_ARGS) {
    PG_RETURN_TEXT_P(
        cstring_to_text(event_cursor_text(event_cursor_now(PG_GETARG_TIMESTAMPTZ(0)))));
}

// _cursor_since(cursor text) -> timestamptz: no row that it has not seen is older.
Datum leadroute_cursor_since(PG_FUNCTION_ARGS) {
    if (PG_ARGISNULL(0))
        PG_RETURN_TIMESTAMPTZ(DT_NOBEGIN);
    const EventCursor* cursor = argument(fcinfo)->cursor;
    TimestampTz since = cursor->since;
    // what the clock did before this shared memory was made is not known
    if (cursor->cluster == GetSystemIdentifier() &&
        (cursor->incarnation == 0 || cursor->incarnation != events_incarnation()))
        since -= kRestartSlack;
    PG_RETURN_TIMESTAMPTZ(Min(since, events_clock_low()));
}

// _cursor_unseen(cursor text, row_xid xid) -> bool: whether the row's transaction is committed and
// not seen by the cursor.
Datum leadroute_cursor_unseen(PG_FUNCTION_ARGS) {
    TransactionId xid = DatumGetTransactionId(PG_GETARG_DATUM(1));
    if (TransactionIdIsNormal(xid) && TransactionIdIsCurrentTransactionId(xid))
        PG_RETURN_BOOL(false);
    if (PG_ARGISNULL(0))
        PG_RETURN_BOOL(true);
    KnownCursor* known = argument(fcinfo);
    if (xid > XidFromFullTransactionId(known->next))
        known->next = ReadNextFullTransactionId();
    if (known->cursor->cluster != GetSystemIdentifier())
        PG_RETURN_BOOL(true);
    PG_RETURN_BOOL(TransactionIdIsNormal(xid) &&
                   unseen_full(known->cursor, full_xid(xid, known->next)));
}
}
