// Counts the record into a block: the rows newer than the checkpoint for what each member has
// received, those of the last days for the caps, the open ones of reps that are to be asked for
// them. Reads by the indexes (tenant, rep, day), so what is older and ended costs nothing.
// Many rows share a key of these, which makes them a fifth of the size that ones by the time would
// have.
//
// A row counts unless its inserter has aborted: MVCC snapshots do not show transactions that were
// prepared before a crash, so this reads with a dirty snapshot and hands rows of transactions in
// progress out as pending charges, to be kept or given back when those end.
#include "recount.h"

extern "C" {
#include "utils/fmgroids.h"
}

constexpr DateADT kAllDays = PG_INT32_MIN;

struct RecordColumns {
    AttrNumber tenant, ticket, decided_at, rep, pool, day, deficit, tag, ended_at, credit_day, cost;
};

AttrNumber record_column(Relation relation, const char* name) {
    AttrNumber number = get_attnum(RelationGetRelid(relation), name);
    if (number == InvalidAttrNumber)
        ereport(ERROR, (errcode(ERRCODE_LR_VERSIONS_DIFFER),
                        errmsg("relation \"%s\" has no column \"%s\"",
                               RelationGetRelationName(relation), name),
                        errhint("ALTER EXTENSION leadroute UPDATE;")));
    return number;
}

static RecordColumns record_columns(Relation record) {
    return {record_column(record, "tenant"),     record_column(record, "ticket"),
            record_column(record, "decided_at"), record_column(record, "rep"),
            record_column(record, "pool"),       record_column(record, "day"),
            record_column(record, "deficit"),    record_column(record, "tag"),
            record_column(record, "ended_at"),   record_column(record, "credit_day"),
            record_column(record, "cost")};
}

// The indexes by (tenant, rep, day), of the open rows and of the ended ones.
struct RepIndexes {
    Relation open;
    Relation ended;
};

bool tests_null(List* predicate, AttrNumber column, NullTestType type) {
    if (list_length(predicate) != 1 || !IsA(linitial(predicate), NullTest))
        return false;
    const NullTest* test = static_cast<const NullTest*>(linitial(predicate));
    return test->nulltesttype == type && IsA(test->arg, Var) &&
           reinterpret_cast<const Var*>(test->arg)->varattno == column;
}

// Of rows with a rep alone, or of those without one, too.
static bool is_of_ended(List* predicate, const RecordColumns* columns, NullTestType type) {
    List* rest = NIL;
    ListCell* cell;
    foreach (cell, predicate)
        if (!tests_null(list_make1(lfirst(cell)), columns->rep, IS_NOT_NULL))
            rest = lappend(rest, lfirst(cell));
    return tests_null(rest, columns->ended_at, type);
}

// Opens them, whatever their names in this physical copy.
static RepIndexes open_rep_indexes(Relation record, const RecordColumns* columns) {
    RepIndexes found = {};
    List* indexes = RelationGetIndexList(record);
    ListCell* cell;
    foreach (cell, indexes) {
        Relation index = index_open(lfirst_oid(cell), AccessShareLock);
        Form_pg_index form = index->rd_index;
        bool by_rep = form->indnkeyatts == 3 && form->indisvalid &&
                      form->indkey.values[0] == columns->tenant &&
                      form->indkey.values[1] == columns->rep &&
                      form->indkey.values[2] == columns->day;
        List* predicate = by_rep ? RelationGetIndexPredicate(index) : NIL;
        if (found.open == NULL && is_of_ended(predicate, columns, IS_NULL))
            found.open = index;
        else if (found.ended == NULL && is_of_ended(predicate, columns, IS_NOT_NULL))
            found.ended = index;
        else
            index_close(index, AccessShareLock);
    }
    list_free(indexes);
    if (found.open == NULL || found.ended == NULL)
        ereport(ERROR,
                (errcode(ERRCODE_LR_CONFIGURATION),
                 errmsg("relation \"%s\" has no index on (tenant, rep, day) WHERE rep IS NOT "
                        "NULL AND ended_at IS %s",
                        RelationGetRelationName(record), found.open == NULL ? "NULL" : "NOT NULL"),
                 errhint("CREATE INDEX ON it (tenant, rep, day), one for the open rows and one for "
                         "the ended ones; counters are rebuilt by them.")));
    return found;
}

bool newer_than_checkpoint(const Checkpoint* checkpoint, int64 ticket) {
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

void note_pending(Recount* r, const PendingCharge* charge) {
    if (r->pending_count == r->pending_room) {
        r->pending_room = Max(64, r->pending_room * 2);
        Size bytes = sizeof(PendingCharge) * r->pending_room;
        r->pending = static_cast<PendingCharge*>(r->pending == NULL ? palloc(bytes)
                                                                    : repalloc(r->pending, bytes));
    }
    r->pending[r->pending_count++] = *charge;
}

int64 row_extra(TupleTableSlot* row, AttrNumber cost) {
    bool isnull;
    Datum value = slot_getattr(row, cost, &isnull);
    return isnull ? 0 : core::extra_of(DatumGetFloat8(value));
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
    bool open;
    TimestampTz ended_at;
    ItemPointerData next; // the row's next version, while somebody is ending it
    TransactionId ending; // who is ending it, or InvalidTransactionId
    bool day_returned;    // credited: the day has it back
    int64 extra;          // what it cost beyond one turn
};

static void note_row_pending(Recount* r, const Row* row, core::Effect effect, TransactionId xid) {
    PendingCharge charge = {};
    charge.xid = xid;
    charge.since = row->decided_at;
    charge.effect = effect;
    charge.ticket = row->ticket;
    charge.rep = row->rep;
    charge.turns = 1;
    if (effect == core::Effect::turn) {
        charge.pool = row->has_pool ? row->pool : 0;
        charge.day = row->day;
        charge.extra = row->extra;
    }
    note_pending(r, &charge);
}

// The rep's open leads: of one who is counted all, else those in flight alone.
static void count_open_row(Recount* r, int32 rep, const Row* row, bool in_progress, bool pending) {
    RepState* state = r->block->rep(rep);
    TransactionId ending = row->ending;
    if (!row->open) {
        // one that is written as ended at once begins and ends with its transaction
        if (!pending)
            return;
        ending = row->in_progress;
    }
    if (state->counts_open || in_progress)
        state->open.used++;
    state->open.in_flight += in_progress ? 1 : 0;
    if (!TransactionIdIsValid(ending) || !r->keep_pending)
        return;
    state->open.ending++;
    note_row_pending(r, row, core::Effect::end, ending);
}

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

    if (r->rep_wanted[rep])
        count_open_row(r, rep, row, in_progress, pending);
    if (r->rep_wanted[rep] && row->has_day && !row->day_returned)
        days_add(&block->rep(rep)->days, row->day, 1, flying);
    if (member >= 0 && r->member_wanted[member]) {
        MemberState* m = block->member(member);
        // no checkpoint includes a transaction in progress, even if its rows have no ticket
        bool newer = r->full || r->member_full[member] || TransactionIdIsValid(row->in_progress) ||
                     newer_than_checkpoint(r->checkpoint, row->ticket);
        if (row->has_day && !row->day_returned)
            days_add(&m->days, row->day, 1, flying);
        if (newer) {
            m->received++;
            m->in_flight += flying;
            m->extra += row->extra;
            m->in_flight_extra += flying * row->extra;
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
    if (pending)
        note_row_pending(r, row, core::Effect::turn, row->in_progress);
}

// Who is ending the row (or has deleted it) and has not ended itself; of a row of a transaction in
// progress the snapshot does not tell.
static TransactionId ender(HeapTuple tuple, const SnapshotData* snapshot) {
    HeapTupleHeader header = tuple->t_data;
    if (!TransactionIdIsValid(snapshot->xmin))
        return snapshot->xmax;
    if ((header->t_infomask & HEAP_XMAX_INVALID) != 0 ||
        HEAP_XMAX_IS_LOCKED_ONLY(header->t_infomask))
        return InvalidTransactionId;
    return HeapTupleHeaderGetUpdateXid(header);
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
    row->ending = ender(tuple, snapshot);
    row->next = tuple->t_data->t_ctid;
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
    Datum ended_at = slot_getattr(slot, c->ended_at, &isnull);
    row->open = isnull;
    row->ended_at = isnull ? DT_NOEND : DatumGetTimestampTz(ended_at);
    Datum returned = slot_getattr(slot, c->credit_day, &isnull);
    row->day_returned = !isnull && DatumGetBool(returned);
    row->extra = row_extra(slot, c->cost);
    return true;
}

// What is remembered of one rep's rows while they are read.
struct RepRows {
    ItemPointerData* next; // of rows seen while somebody was ending them: should that have been
    int32 next_count;      // committed meanwhile, their ended version is not counted again
    int32 next_room;
    TimestampTz* ended; // when the ended ones did
    int32 ended_count;
    int32 ended_room;
    TimestampTz latest; // the rep's latest lead was decided
};

static void remember_open(RepRows* rows, const Row* row) {
    if (rows->next_count == rows->next_room) {
        rows->next_room = Max(16, rows->next_room * 2);
        Size bytes = sizeof(ItemPointerData) * rows->next_room;
        rows->next = static_cast<ItemPointerData*>(
            rows->next == NULL ? palloc(bytes) : repalloc(rows->next, bytes));
    }
    rows->next[rows->next_count++] = row->next;
}

static bool was_seen_open(const RepRows* rows, ItemPointer version) {
    for (int32 i = 0; i < rows->next_count; i++)
        if (ItemPointerEquals(&rows->next[i], version))
            return true;
    return false;
}

static void remember_time(RepRows* rows, const Row* row) {
    rows->latest = Max(rows->latest, row->decided_at);
    if (row->open)
        return;
    if (rows->ended_count == rows->ended_room) {
        rows->ended_room = Max(64, rows->ended_room * 2);
        Size bytes = sizeof(TimestampTz) * rows->ended_room;
        rows->ended = static_cast<TimestampTz*>(
            rows->ended == NULL ? MemoryContextAllocHuge(CurrentMemoryContext, bytes)
                                : repalloc_huge(rows->ended, bytes));
    }
    rows->ended[rows->ended_count++] = row->ended_at;
}

// Was the rep at capacity with the latest lead?
static bool was_at_capacity(const RepState* rep, const RepRows* rows) {
    int32 open = rep->open.used;
    for (int32 i = 0; i < rows->ended_count; i++)
        open += rows->ended[i] > rows->latest ? 1 : 0;
    return rep->open_cap != kNoCap && open >= rep->open_cap;
}

// Is the update in progress one that ends the row? `next` becomes the version that does.
static bool is_ending(Relation record, const RecordColumns* columns, Row* row) {
    TupleTableSlot* slot = table_slot_create(record, NULL);
    bool ended = false;
    ItemPointerData before;
    ItemPointerSetInvalid(&before);
    while (!ended && !ItemPointerEquals(&row->next, &before) &&
           table_tuple_fetch_row_version(record, &row->next, SnapshotAny, slot)) {
        bool isnull;
        (void)slot_getattr(slot, columns->ended_at, &isnull);
        ended = !isnull;
        before = row->next;
        if (ended)
            break;
        bool must_free;
        HeapTuple tuple = ExecFetchSlotHeapTuple(slot, false, &must_free);
        row->next = tuple->t_data->t_ctid;
        if (must_free)
            heap_freetuple(tuple);
    }
    ExecDropSingleTupleTableSlot(slot);
    return ended;
}

// Counts a rep's rows of one index from the day `since` on, or all with kAllDays.
static void count_rep(Recount* r, Relation record, Relation index, const RecordColumns* columns,
                      int64 tenant, int32 rep, DateADT since, RepRows* rows) {
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
        if (!read_row(slot, columns, &snapshot, &row) ||
            (!row.open && was_seen_open(rows, &slot->tts_tid)))
            continue;
        if (row.open && TransactionIdIsValid(row.ending)) {
            if (is_ending(record, columns, &row))
                remember_open(rows, &row);
            else
                row.ending = InvalidTransactionId;
        }
        if (r->block->rep(rep)->open_cap != kNoCap)
            remember_time(rows, &row);
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
    RepIndexes indexes = open_rep_indexes(record, &columns);
    RepRows rows = {};
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
        if (!wanted)
            continue;
        bool all_open = r->rep_wanted[i] && rep->counts_open;
        rows.next_count = rows.ended_count = 0;
        rows.latest = DT_NOBEGIN;
        count_rep(r, record, indexes.open, &columns, key->tenant, i,
                  full || all_open ? kAllDays : since, &rows);
        if (!r->open_only)
            count_rep(r, record, indexes.ended, &columns, key->tenant, i, full ? kAllDays : since,
                      &rows);
        if (all_open) {
            rep->open.known = OpenKnown::yes;
            r->open_capped[i] = was_at_capacity(rep, &rows);
        }
    }
    if (!r->open_only)
        recount_credits(r, record, key->tenant);
    finish_days(r, zones);
    index_close(indexes.open, AccessShareLock);
    index_close(indexes.ended, AccessShareLock);
    table_close(record, AccessShareLock);
}
