// Counts the record into a block: the rows newer than the checkpoint for what each member has
// received, those of the last days for the caps. Reads by the index (tenant, rep, day), so what is
// older costs nothing. Many rows share a key of this index, which makes it a fifth of the size that
// one by the time would have.
//
// A row counts unless its inserter has aborted: MVCC snapshots do not show transactions that were
// prepared before a crash, so this reads with a dirty snapshot and hands rows of transactions in
// progress out as pending charges, to be kept or given back when those end.
#include "tenant.h"

extern "C" {
#include "utils/fmgroids.h"
}

constexpr DateADT kAllDays = PG_INT32_MIN;

struct RecordColumns {
    AttrNumber tenant, ticket, decided_at, rep, pool, day, deficit, tag;
};

static AttrNumber column_number(Relation relation, const char* name) {
    AttrNumber number = get_attnum(RelationGetRelid(relation), name);
    if (number == InvalidAttrNumber)
        ereport(ERROR, (errcode(ERRCODE_LR_VERSIONS_DIFFER),
                        errmsg("relation \"%s\" has no column \"%s\"",
                               RelationGetRelationName(relation), name),
                        errhint("ALTER EXTENSION leadroute UPDATE;")));
    return number;
}

static RecordColumns record_columns(Relation record) {
    return {column_number(record, "tenant"),     column_number(record, "ticket"),
            column_number(record, "decided_at"), column_number(record, "rep"),
            column_number(record, "pool"),       column_number(record, "day"),
            column_number(record, "deficit"),    column_number(record, "tag")};
}

// The index by (tenant, rep, day), whatever its name in this physical copy.
static Oid rep_index(Relation record, const RecordColumns* columns) {
    Oid found = InvalidOid;
    List* indexes = RelationGetIndexList(record);
    ListCell* cell;
    foreach (cell, indexes) {
        Relation index = index_open(lfirst_oid(cell), AccessShareLock);
        Form_pg_index form = index->rd_index;
        if (form->indnkeyatts == 3 && form->indisvalid && RelationGetIndexPredicate(index) == NIL &&
            form->indkey.values[0] == columns->tenant && form->indkey.values[1] == columns->rep &&
            form->indkey.values[2] == columns->day)
            found = RelationGetRelid(index);
        index_close(index, AccessShareLock);
    }
    list_free(indexes);
    if (!OidIsValid(found))
        ereport(ERROR,
                (errcode(ERRCODE_LR_CONFIGURATION),
                 errmsg("relation \"%s\" has no index on (tenant, rep, day)",
                        RelationGetRelationName(record)),
                 errhint("CREATE INDEX ON it (tenant, rep, day); counters are rebuilt by it.")));
    return found;
}

static bool newer_than_checkpoint(const Checkpoint* checkpoint, int64 ticket) {
    if (!checkpoint->found || ticket > checkpoint->ticket)
        return true;
    int32 low = 0, high = checkpoint->in_flight_count - 1;
    while (low <= high) {
        int32 middle = (low + high) / 2;
        if (checkpoint->in_flight[middle] == ticket)
            return true;
        if (checkpoint->in_flight[middle] < ticket)
            low = middle + 1;
        else
            high = middle - 1;
    }
    return false;
}

static void note_pending(Recount* r, const PendingCharge* charge) {
    if (r->pending_count == r->pending_room) {
        r->pending_room = Max(64, r->pending_room * 2);
        Size bytes = sizeof(PendingCharge) * r->pending_room;
        r->pending = static_cast<PendingCharge*>(r->pending == NULL ? palloc(bytes)
                                                                    : repalloc(r->pending, bytes));
    }
    r->pending[r->pending_count++] = *charge;
}

struct Row {
    int64 ticket;
    int64 rep;
    TimestampTz decided_at;
    bool has_pool;
    int32 pool;
    bool has_day;
    DateADT day;
    double deficit;
    double tag;                // NaN: none
    TransactionId in_progress; // its inserter, or InvalidTransactionId
};

static void count_row(Recount* r, int32 rep, const Row* row) {
    TenantBlock* block = r->block;
    int32 pool = row->has_pool ? block_find_pool(block, row->pool) : -1;
    int32 member = pool < 0 ? -1 : block_find_member(block, pool, row->rep);
    // a draft sees its own rows as they are
    bool in_progress = TransactionIdIsValid(row->in_progress) &&
                       (r->keep_pending || !TransactionIdIsCurrentTransactionId(row->in_progress));
    // of a rep that is loaded already this is known, and pending, already
    bool pending = in_progress && r->keep_pending && r->rep_wanted[rep];
    int32 flying = in_progress ? 1 : 0;

    if (r->rep_wanted[rep] && row->has_day)
        days_add(&block->rep(rep)->days, row->day, 1, flying);
    if (member >= 0 && r->member_wanted[member]) {
        MemberState* m = block->member(member);
        // no checkpoint includes a transaction in progress, even if its rows have no ticket
        bool newer = r->full || r->member_full[member] || TransactionIdIsValid(row->in_progress) ||
                     newer_than_checkpoint(r->checkpoint, row->ticket);
        if (row->has_day)
            days_add(&m->days, row->day, 1, flying);
        if (newer) {
            m->received++;
            m->in_flight += flying;
        }
        // by ticket first: the clock may have been set back
        if (row->ticket > r->last_ticket[member] ||
            (row->ticket == r->last_ticket[member] && row->decided_at >= r->last_at[member])) {
            r->last_ticket[member] = row->ticket;
            r->last_at[member] = row->decided_at;
            if (newer) {
                r->last_deficit[member] = row->deficit;
                r->last_tag[member] = row->tag;
            }
        }
    }
    if (row->ticket > r->max_ticket)
        r->max_ticket = row->ticket;
    if (pending) {
        PendingCharge charge = {};
        charge.xid = row->in_progress;
        charge.since = row->decided_at;
        charge.pool = row->has_pool ? row->pool : 0;
        charge.ticket = row->ticket;
        charge.rep = row->rep;
        charge.day = row->day;
        charge.turns = 1;
        note_pending(r, &charge);
    }
}

// Reads the row in the slot; false: this version does not count.
static bool read_row(TupleTableSlot* slot, const RecordColumns* c, const SnapshotData* snapshot,
                     Row* row) {
    bool must_free;
    HeapTuple tuple = ExecFetchSlotHeapTuple(slot, false, &must_free);
    TransactionId inserter = snapshot->xmin;
    if (!TransactionIdIsValid(inserter)) {
        TransactionId xmin = HeapTupleHeaderGetXmin(tuple->t_data);
        if (TransactionIdIsCurrentTransactionId(xmin))
            inserter = xmin;
    }
    bool updated = (tuple->t_data->t_infomask & HEAP_UPDATED) != 0;
    if (must_free)
        heap_freetuple(tuple);
    if (updated) {
        // of an update in progress the old version is seen as well: that one counts
        if (TransactionIdIsValid(snapshot->xmin))
            return false;
        inserter = InvalidTransactionId;
    }

    bool isnull;
    row->in_progress = inserter;
    row->ticket = DatumGetInt64(slot_getattr(slot, c->ticket, &isnull));
    row->rep = DatumGetInt64(slot_getattr(slot, c->rep, &isnull));
    row->decided_at = DatumGetTimestampTz(slot_getattr(slot, c->decided_at, &isnull));
    Datum pool = slot_getattr(slot, c->pool, &isnull);
    row->has_pool = !isnull;
    row->pool = isnull ? 0 : DatumGetInt32(pool);
    Datum day = slot_getattr(slot, c->day, &isnull);
    row->has_day = !isnull;
    row->day = isnull ? 0 : DatumGetDateADT(day);
    Datum deficit = slot_getattr(slot, c->deficit, &isnull);
    row->deficit = isnull ? 0 : DatumGetFloat4(deficit);
    Datum tag = slot_getattr(slot, c->tag, &isnull);
    row->tag = isnull ? get_float8_nan() : DatumGetFloat8(tag);
    return true;
}

// Counts a rep's rows from the day `since` on, or all with kAllDays.
static void count_rep(Recount* r, Relation record, Relation index, const RecordColumns* columns,
                      int64 tenant, int32 rep, DateADT since) {
    int key_count = since == kAllDays ? 2 : 3;
    ScanKeyData keys[3];
    ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(tenant));
    ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_INT8EQ,
                Int64GetDatum(r->block->rep(rep)->id));
    ScanKeyInit(&keys[2], 3, BTGreaterEqualStrategyNumber, F_DATE_GE, DateADTGetDatum(since));
    SnapshotData snapshot;
    InitDirtySnapshot(snapshot);
    IndexScanDesc scan = begin_index_scan(record, index, &snapshot, key_count);
    index_rescan(scan, keys, key_count, NULL, 0);
    TupleTableSlot* slot = table_slot_create(record, NULL);
    while (index_getnext_slot(scan, ForwardScanDirection, slot)) {
        CHECK_FOR_INTERRUPTS();
        Row row;
        if (read_row(slot, columns, &snapshot, &row))
            count_row(r, rep, &row);
    }
    ExecDropSingleTupleTableSlot(slot);
    index_endscan(scan);
}

// While rows are counted any day may come, so that the latest days with rows are kept.
static void start_days(Recount* r) {
    for (int32 i = 0; i < r->block->rep_count; i++)
        if (r->rep_wanted[i])
            r->block->rep(i)->days.known_from = PG_INT32_MIN / 2;
    for (int32 i = 0; i < r->block->member_count; i++)
        if (r->member_wanted[i])
            r->block->member(i)->days.known_from = PG_INT32_MIN / 2;
}

// Afterwards the days before the rows read are unknown.
static void finish_days(Recount* r, const ZoneDays* zones) {
    for (int32 i = 0; i < r->block->rep_count; i++) {
        DayCounts* days = &r->block->rep(i)->days;
        if (r->rep_wanted[i])
            days->known_from = Max(days->known_from, zones->day[r->block->rep(i)->zone] - kCapDays);
    }
    for (int32 i = 0; i < r->block->member_count; i++) {
        DayCounts* days = &r->block->member(i)->days;
        int32 zone = r->block->rep(r->block->member(i)->rep)->zone;
        if (r->member_wanted[i])
            days->known_from = Max(days->known_from, zones->day[zone] - kCapDays);
    }
}

// The first day that rows are read of.
static DateADT first_day(const Recount* r, TimestampTz now) {
    if (r->full || !r->checkpoint->found)
        return kAllDays;
    // three full days back at least; a rep's day may be one behind that of UTC, the rest is for a
    // clock that was set back meanwhile
    TimestampTz since = Min(now, r->checkpoint->since) - (kCapDays + 2) * USECS_PER_DAY;
    return static_cast<DateADT>(since / USECS_PER_DAY);
}

void recount_rows(Recount* r, const TenantKey* key) {
    TimestampTz now = GetCurrentTimestamp();
    const ZoneDays* zones = zone_days(now, true);
    DateADT since = first_day(r, now);

    Relation record = table_open(key->assignment, AccessShareLock);
    RecordColumns columns = record_columns(record);
    Relation index = index_open(rep_index(record, &columns), AccessShareLock);
    start_days(r);
    for (int32 i = 0; i < r->block->rep_count; i++) {
        RepState* rep = r->block->rep(i);
        bool wanted = r->rep_wanted[i];
        bool full = false;
        for (int32 k = 0; k < rep->member_count; k++) {
            int32 member = *r->block->member_of_rep(rep->first_member + k);
            wanted = wanted || r->member_wanted[member];
            full = full || r->member_full[member];
        }
        if (wanted)
            count_rep(r, record, index, &columns, key->tenant, i, full ? kAllDays : since);
    }
    finish_days(r, zones);
    index_close(index, AccessShareLock);
    table_close(record, AccessShareLock);
}
