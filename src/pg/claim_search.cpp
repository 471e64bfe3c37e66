// The next lead of a queue; see claim_search.h.
#include "claim_search.h"
#include "lead_table.h"
#include "record.h"
#include "transaction.h"

extern "C" {
#include "access/nbtree.h"
#include "access/skey.h"
#include "utils/fmgroids.h"
}

// (tenant, pool, place, -score, since, lead id), and the same of the tank.
constexpr int kKeys = 6;
constexpr AttrNumber kPlaceKey = 3;

// Its two indexes, as this session knows them.
struct QueueIndexes {
    Oid assignment;
    Oid index[2]; // of pools, and of shark tanks
    RegProcedure compare[kKeys - kPlaceKey + 1];
    Oid collation;
};
static QueueIndexes known;
static bool callback_registered;

static void relation_changed(Datum, Oid relation) {
    if (relation == InvalidOid || relation == known.assignment || relation == known.index[0] ||
        relation == known.index[1])
        known.assignment = InvalidOid;
}

// Which of the two it is; -1: neither.
static int kind_of(Relation index, Oid assignment) {
    const char* const columns[2][kKeys] = {
        {"tenant", "pool", NULL, NULL, "decided_at", "lead_id"},
        {"tenant", "tank_pool", NULL, NULL, "tank_at", "lead_id"}};
    const Form_pg_index form = index->rd_index;
    for (int kind = 0; form->indnkeyatts == kKeys && form->indisvalid && kind < 2; kind++) {
        int same = 0;
        for (int i = 0; i < kKeys; i++)
            same += form->indkey.values[i] ==
                    (columns[kind][i] == NULL ? 0 : get_attnum(assignment, columns[kind][i]));
        if (same == kKeys)
            return kind;
    }
    return -1;
}

static void learn_index(QueueIndexes* found, Oid oid) {
    Relation index = index_open(oid, AccessShareLock);
    int kind = kind_of(index, found->assignment);
    if (kind >= 0) {
        found->index[kind] = oid;
        found->collation = index->rd_indcollation[kKeys - 1];
        for (AttrNumber i = kPlaceKey; i <= kKeys; i++)
            found->compare[i - kPlaceKey] = index_getprocid(index, i, BTORDER_PROC);
    }
    index_close(index, AccessShareLock);
}

static void learn(Relation record) {
    if (!callback_registered) {
        CacheRegisterRelcacheCallback(relation_changed, (Datum)0);
        callback_registered = true;
    }
    QueueIndexes found = {};
    found.assignment = RelationGetRelid(record);
    List* indexes = RelationGetIndexList(record);
    ListCell* cell;
    foreach (cell, indexes)
        learn_index(&found, lfirst_oid(cell));
    list_free(indexes);
    if (!OidIsValid(found.index[0]) || !OidIsValid(found.index[1]))
        ereport(ERROR, (errcode(ERRCODE_LR_CONFIGURATION),
                        errmsg("relation \"%s\" lacks an index of its queues",
                               RelationGetRelationName(record)),
                        errdetail("Leads are claimed in the order of assignment_pull, and those of "
                                  "the shark tank in that of assignment_tank."),
                        errhint("Create it as leadroute's script does.")));
    known = found;
}

// A queue that is read, and is opened for that only.
struct QueueScan {
    const ClaimQueue* queue;
    Relation record, index;
    IndexScanDesc scan;
    TupleTableSlot* slot;
    ScanKeyData keys[3];
    ScanKeyData after[kKeys - kPlaceKey + 1];
};

static void open_queue(QueueScan* scan) {
    if (scan->record != NULL)
        return;
    scan->record = table_open(scan->queue->key.assignment, AccessShareLock);
    if (known.assignment != scan->queue->key.assignment)
        learn(scan->record);
    scan->index = index_open(known.index[scan->queue->tank], AccessShareLock);
    scan->slot = table_slot_create(scan->record, NULL);
}

static void close_queue(QueueScan* scan) {
    if (scan->record == NULL)
        return;
    ExecDropSingleTupleTableSlot(scan->slot);
    index_close(scan->index, NoLock);
    table_close(scan->record, NoLock);
}

// The condition (place, -score, since, lead id) > (...).
static void key_after(QueueScan* scan, const ClaimPlace* place) {
    Datum values[] = {Int32GetDatum(place->place), Float8GetDatum(place->minus_score),
                      TimestampTzGetDatum(place->since), CStringGetTextDatum(place->lead_id)};
    const int members = lengthof(values);
    for (int i = 0; i < members; i++)
        ScanKeyEntryInitialize(&scan->after[i], SK_ROW_MEMBER | (i == members - 1 ? SK_ROW_END : 0),
                               (AttrNumber)(kPlaceKey + i), BTGreaterStrategyNumber, InvalidOid,
                               i == members - 1 ? known.collation : InvalidOid, known.compare[i],
                               values[i]);
    ScanKeyData* header = &scan->keys[2];
    memset(header, 0, sizeof(*header));
    header->sk_flags = SK_ROW_HEADER;
    header->sk_attno = kPlaceKey;
    header->sk_strategy = BTGreaterStrategyNumber;
    header->sk_argument = PointerGetDatum(scan->after);
}

static void begin_queue(QueueScan* scan, const ClaimPlace* after) {
    PushActiveSnapshot(GetLatestSnapshot());
    // what is read here makes no claim fail: SERIALIZABLE minds MVCC snapshots alone
    Snapshot snapshot = IsolationIsSerializable() ? SnapshotSelf : GetActiveSnapshot();
    int count = after == NULL ? 2 : 3;
    ScanKeyInit(&scan->keys[0], 1, BTEqualStrategyNumber, F_INT8EQ,
                Int64GetDatum(scan->queue->key.tenant));
    ScanKeyInit(&scan->keys[1], 2, BTEqualStrategyNumber, F_INT4EQ,
                Int32GetDatum(scan->queue->pool));
    if (after != NULL)
        key_after(scan, after);
    scan->scan = begin_index_scan(scan->record, scan->index, snapshot, count);
    scan->scan->xs_want_itup = true; // where a row stands is read from the index
    index_rescan(scan->scan, scan->keys, count, NULL, 0);
}

static void end_queue(QueueScan* scan) {
    ExecClearTuple(scan->slot);
    index_endscan(scan->scan);
    PopActiveSnapshot();
}

static bool next_in_queue(QueueScan* scan) {
    return index_getnext_slot(scan->scan, ForwardScanDirection, scan->slot);
}

// Where the present row stands, as the index says.
static void read_place(const QueueScan* scan, ClaimPlace* place) {
    Datum values[INDEX_MAX_KEYS];
    bool nulls[INDEX_MAX_KEYS];
    index_deform_tuple(scan->scan->xs_itup, scan->scan->xs_itupdesc, values, nulls);
    place->place = DatumGetInt32(values[2]);
    place->minus_score = DatumGetFloat8(values[3]);
    place->since = DatumGetTimestampTz(values[4]);
    place->lead_id[0] = '\0';
    text* id = DatumGetTextPP(values[5]);
    if (VARSIZE_ANY_EXHDR(id) < kPlaceId)
        text_to_cstring_buffer(id, place->lead_id, kPlaceId);
}

static void read_rows(void* context, const ClaimPlace* after, int most, ClaimRows* rows) {
    QueueScan* scan = static_cast<QueueScan*>(context);
    begin_queue(scan, after);
    bool more = true;
    while (rows->count < most && (more = next_in_queue(scan))) {
        rows->row[rows->count++] = scan->slot->tts_tid;
        read_place(scan, &rows->last);
    }
    rows->at_end = !more;
    end_queue(scan);
}

static bool is_over(ClaimTry tried) {
    return tried == ClaimTry::taken || tried == ClaimTry::stop;
}

// What came of the last row that was offered; gone: of none. *empty: there is no row in the queue.
static ClaimTry search_cursor(QueueScan* scan, TimestampTz now, bool any_order, ClaimTaker take,
                              void* context, bool* empty) {
    ClaimWalk walk;
    ClaimTry tried = ClaimTry::gone;
    if (!claim_walk_start(&walk, scan->queue, now))
        return tried;
    walk.any_order = any_order;
    ItemPointerData row;
    while (!is_over(tried)) {
        CHECK_FOR_INTERRUPTS();
        if (!claim_walk_next(&walk, read_rows, scan, &row)) {
            if (!walk.stopped)
                break;
            // all that may wait for a lock is done before others wait for this session
            open_queue(scan);
            walk.can_read = true;
            continue;
        }
        tried = take(context, &row);
        if (tried == ClaimTry::unfit || tried == ClaimTry::stop)
            claim_walk_put_back(&walk);
    }
    *empty = walk.empty;
    return tried;
}

// *end is the place of a row that was taken.
static ClaimTry search_index(QueueScan* scan, const ClaimPlace* after, ClaimTaker take,
                             void* context, ClaimPlace* end) {
    open_queue(scan);
    begin_queue(scan, after);
    ClaimTry tried = ClaimTry::gone;
    while (!is_over(tried) && next_in_queue(scan)) {
        CHECK_FOR_INTERRUPTS();
        ItemPointerData row = scan->slot->tts_tid;
        tried = take(context, &row);
        if (tried == ClaimTry::taken)
            read_place(scan, end);
    }
    end_queue(scan);
    return tried;
}

// --- leads that are not for a rep ---

// What is true of them all; while it is, none of them has become one for him.
struct PassedBy {
    ClaimQueue queue;
    int64 rep;
    uint64 told, generation, serial;
};

// As far as the index was read for a rep who took none before: more than the cursor holds, so that
// each of his claims would read them all. The last such walk of this session.
struct Passed {
    PassedBy by;
    TimestampTz at; // 0: none
    ClaimPlace end;
};
static Passed passed;

// False: nobody would tell if that changed.
static bool passed_by(const ClaimQueue* queue, int64 rep, PassedBy* by) {
    memset(static_cast<void*>(by), 0, sizeof(*by));
    by->queue = *queue;
    by->rep = rep;
    by->generation = tenant_generation(&queue->key);
    by->serial = config_serial();
    return claim_cursor_told(queue, &by->told);
}

static bool is_passed(const PassedBy* by, TimestampTz now) {
    return passed.at != 0 && now - passed.at < USECS_PER_SEC && passed.at - now < USECS_PER_SEC &&
           same_key(&passed.by.queue.key, &by->queue.key) &&
           passed.by.queue.pool == by->queue.pool && passed.by.queue.tank == by->queue.tank &&
           passed.by.rep == by->rep && passed.by.told == by->told &&
           passed.by.generation == by->generation && passed.by.serial == by->serial;
}

// From where the rep's last walk has come to; gone: it has not, or there is none behind.
static ClaimTry search_rest(QueueScan* scan, int64 rep, TimestampTz now, ClaimTaker take,
                            void* context) {
    PassedBy by;
    if (passed.at == 0 || !passed_by(scan->queue, rep, &by) || !is_passed(&by, now))
        return ClaimTry::gone;
    ClaimPlace after = passed.end;
    ClaimTry tried = search_index(scan, &after, take, context, &passed.end);
    if (passed.end.lead_id[0] == '\0')
        passed.at = 0;
    return tried;
}

// From the front by the cursor, and then the index.
static ClaimTry search_all(QueueScan* scan, int64 rep, TimestampTz now, bool any_order,
                           ClaimTaker take, void* context) {
    bool empty = false;
    ClaimTry tried = search_cursor(scan, now, any_order, take, context, &empty);
    if (is_over(tried) || empty)
        return tried;
    PassedBy by;
    ClaimPlace end;
    bool told = !any_order && passed_by(scan->queue, rep, &by);
    tried = search_index(scan, NULL, take, context, &end);
    // one cannot go on from a place whose lead has too long a key
    if (tried == ClaimTry::taken && told && end.lead_id[0] != '\0')
        passed = {by, now, end};
    return tried;
}

bool claim_search(const ClaimQueue* queue, int64 rep, TimestampTz now, bool any_order,
                  ClaimTaker take, void* context) {
    QueueScan scan = {};
    scan.queue = queue;
    ClaimTry tried = any_order ? ClaimTry::gone : search_rest(&scan, rep, now, take, context);
    if (!is_over(tried))
        tried = search_all(&scan, rep, now, any_order, take, context);
    close_queue(&scan);
    return tried == ClaimTry::taken;
}

bool claim_head(const ClaimQueue* queue, ClaimPlace* place) {
    QueueScan scan = {};
    ClaimRows rows;
    rows.count = 0;
    scan.queue = queue;
    open_queue(&scan);
    read_rows(&scan, NULL, 1, &rows);
    close_queue(&scan);
    *place = rows.last;
    return rows.count > 0;
}
