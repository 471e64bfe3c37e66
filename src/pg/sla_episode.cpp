// See sla_episode.h. Rows are read and written beside SQL, as record.cpp writes new ones.
#include "sla_episode.h"
#include "placement.h"
#include "record.h"
#include "record_change.h"
#include "sla.h"

extern "C" {
#include "access/skey.h"
#include "common/hashfn.h"
#include "utils/fmgroids.h"
}

static const char* const column_names[kSlaColumns] = {
    "tenant",      "lead_table",   "lead_id",       "episode",     "rep",          "rule",
    "pool",        "method",       "decided_at",    "day",         "cost",         "sla",
    "due_at",      "next_step_at", "stepped",       "breached_at", "touched_at",   "ended_at",
    "end_reason",  "hops",         "pool_bound",    "avoid",       "tank_pool",    "tank_at",
    "credited_at", "credited_by",  "credit_reason", "credit_day",  "credit_ticket"};

void sla_record_open(SlaRecord* record) {
    record->assignment = get_relname_relid("assignment", leadroute_schema());
    RecordIndex due;
    if (!record_index(record->assignment, RecordKey::next_step, &due))
        ereport(ERROR, (errcode(ERRCODE_LR_VERSIONS_DIFFER),
                        errmsg("leadroute.assignment has no index of what is due"),
                        errdetail("The steps of policies are found by it."),
                        errhint("ALTER EXTENSION leadroute UPDATE;")));
    record->columns = RelationGetDescr(due.record);
    for (int i = 0; i < kSlaColumns; i++)
        record->column[i] = get_attnum(record->assignment, column_names[i]);
}

// --- one row ---

static bool present(const SlaRecord* record, const SlaEpisode* e, SlaColumn column) {
    return !e->nulls[record->column[column] - 1];
}

static Datum value(const SlaRecord* record, const SlaEpisode* e, SlaColumn column) {
    return present(record, e, column) ? e->values[record->column[column] - 1] : (Datum)0;
}

static void read_row(const SlaRecord* record, SlaEpisode* e) {
    auto of = [=](SlaColumn column) { return value(record, e, column); };
    e->tenant = DatumGetInt64(of(S_TENANT));
    e->lead_table = DatumGetInt32(of(S_LEAD_TABLE));
    e->lead_id = TextDatumGetCString(of(S_LEAD_ID));
    e->number = DatumGetInt32(of(S_EPISODE));
    e->rep = DatumGetInt64(of(S_REP));
    e->rule = DatumGetInt64(of(S_RULE));
    e->pool = DatumGetInt32(of(S_POOL));
    e->decided_at = DatumGetTimestampTz(of(S_DECIDED_AT));
    e->sla = DatumGetInt32(of(S_SLA));
    e->due_at = present(record, e, S_DUE_AT) ? DatumGetTimestampTz(of(S_DUE_AT)) : DT_NOEND;
    e->next_step_at = DatumGetTimestampTz(of(S_NEXT_STEP_AT));
    Datum stepped = of(S_STEPPED);
    e->stepped = stepped == 0 ? 0 : sla_microseconds(DatumGetIntervalP(stepped));
    e->avoid = of(S_AVOID);
    e->hops = DatumGetInt32(of(S_HOPS));
    e->pool_bound = DatumGetBool(of(S_POOL_BOUND));
    const text* method = DatumGetTextPP(of(S_METHOD));
    e->manual = VARSIZE_ANY_EXHDR(method) == 6 && memcmp(VARDATA_ANY(method), "manual", 6) == 0;
    e->breached = present(record, e, S_BREACHED_AT);
    e->waits_for_step = present(record, e, S_NEXT_STEP_AT) && !present(record, e, S_TOUCHED_AT) &&
                        !present(record, e, S_ENDED_AT);
}

static void take_row(const SlaRecord* record, TupleTableSlot* slot, SlaEpisode* e) {
    HeapTuple tuple = ExecCopySlotHeapTuple(slot);
    e->row = slot->tts_tid;
    e->values = static_cast<Datum*>(palloc(sizeof(Datum) * record->columns->natts));
    e->nulls = static_cast<bool*>(palloc(record->columns->natts));
    heap_deform_tuple(tuple, record->columns, e->values, e->nulls);
    read_row(record, e);
}

void sla_set(const SlaRecord* record, SlaEpisode* e, SlaColumn column, Datum value) {
    e->values[record->column[column] - 1] = value;
    e->nulls[record->column[column] - 1] = false;
}

void sla_unset(const SlaRecord* record, SlaEpisode* e, SlaColumn column) {
    e->nulls[record->column[column] - 1] = true;
}

void sla_write(const SlaRecord* record, SlaEpisode* e, bool ended) {
    if (!record_change_values(record->assignment, ended ? RowChange::rep_ends : RowChange::goes_on,
                              &e->row, e->values, e->nulls))
        ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
                        errmsg("the record of lead %s was changed meanwhile", e->lead_id)));
}

void sla_copy(const SlaRecord* record, const SlaEpisode* from, SlaEpisode* to) {
    int columns = record->columns->natts;
    *to = *from;
    to->values = static_cast<Datum*>(palloc(sizeof(Datum) * columns));
    to->nulls = static_cast<bool*>(palloc(columns));
    memcpy(to->values, from->values, sizeof(Datum) * columns);
    memcpy(to->nulls, from->nulls, columns);
}

// --- finding ---

uint64 sla_lead_key(const SlaEpisode* e) {
    uint64 key = hash_bytes_extended(reinterpret_cast<const unsigned char*>(e->lead_id),
                                     (int)strlen(e->lead_id), (uint64)e->tenant);
    return hash_combine64(key, (uint64)e->lead_table);
}

static bool is_wanted(const SlaSearch* search, const SlaEpisode* e) {
    bool mine = search->tenants == NULL;
    for (int i = 0; !mine && i < search->tenant_count; i++)
        mine = search->tenants[i] == e->tenant;
    if (!mine || search->passed == NULL)
        return mine;
    uint64 key = sla_lead_key(e);
    return hash_search(search->passed, &key, HASH_FIND, NULL) == NULL;
}

int sla_find(const SlaRecord* record, const SlaSearch* search, int most, SlaEpisode* found) {
    RecordIndex due;
    (void)record_index(record->assignment, RecordKey::next_step, &due);
    ScanKeyData keys[2];
    ScanKeyInit(&keys[0], 1, BTGreaterEqualStrategyNumber, F_TIMESTAMPTZ_GE,
                TimestampTzGetDatum(search->from));
    ScanKeyInit(&keys[1], 1, BTLessEqualStrategyNumber, F_TIMESTAMPTZ_LE,
                TimestampTzGetDatum(search->until));
    PushActiveSnapshot(GetLatestSnapshot());
    IndexScanDesc scan = begin_index_scan(due.record, due.index, GetActiveSnapshot(), 2);
    index_rescan(scan, keys, 2, NULL, 0);
    TupleTableSlot* slot = table_slot_create(due.record, NULL);
    int count = 0;
    while (count < most && index_getnext_slot(scan, ForwardScanDirection, slot)) {
        CHECK_FOR_INTERRUPTS();
        take_row(record, slot, &found[count]);
        found[count].found_at = found[count].next_step_at;
        count += is_wanted(search, &found[count]);
    }
    ExecDropSingleTupleTableSlot(slot);
    index_endscan(scan);
    PopActiveSnapshot();
    return count;
}

static int lead_keys(const SlaEpisode* e, ScanKeyData* keys) {
    ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(e->tenant));
    ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(e->lead_table));
    ScanKeyEntryInitialize(&keys[2], 0, 3, BTEqualStrategyNumber, InvalidOid, DEFAULT_COLLATION_OID,
                           F_TEXTEQ, CStringGetTextDatum(e->lead_id));
    return 3;
}

// --- reading it again, and what was before it ---

void sla_reader_open(const SlaRecord* record, SlaReader* reader) {
    *reader = {};
    reader->record = table_open(record->assignment, NoLock); // it is locked already
    reader->context = CurrentMemoryContext;
    reader->slot = table_slot_create(reader->record, NULL);
}

void sla_reader_close(SlaReader* reader) {
    ExecDropSingleTupleTableSlot(reader->slot);
    if (reader->past != NULL)
        index_endscan(reader->past);
    table_close(reader->record, NoLock);
    *reader = {};
}

static bool read_by_lead(const SlaRecord* record, SlaReader* reader, SlaEpisode* e) {
    RecordIndex by_lead;
    if (!record_index(record->assignment, RecordKey::open_lead, &by_lead))
        return false;
    ScanKeyData keys[3];
    int count = lead_keys(e, keys);
    IndexScanDesc scan =
        begin_index_scan(by_lead.record, by_lead.index, GetActiveSnapshot(), count);
    index_rescan(scan, keys, count, NULL, 0);
    bool found = index_getnext_slot(scan, ForwardScanDirection, reader->slot);
    if (found)
        take_row(record, reader->slot, e);
    index_endscan(scan);
    return found;
}

bool sla_episode_now(const SlaRecord* record, SlaReader* reader, SlaEpisode* e) {
    PushActiveSnapshot(GetLatestSnapshot());
    bool stands =
        table_tuple_fetch_row_version(reader->record, &e->row, GetActiveSnapshot(), reader->slot) ||
        read_by_lead(record, reader, e);
    PopActiveSnapshot();
    ExecClearTuple(reader->slot);
    return stands;
}

// One scan looks for all leads; what it allocates on its way is good as long as it is.
static void past_begin(const SlaRecord* record, SlaReader* reader, const SlaEpisode* e) {
    ScanKeyData keys[3];
    int count = lead_keys(e, keys);
    MemoryContext caller = MemoryContextSwitchTo(reader->context);
    if (reader->past == NULL)
        reader->past = begin_index_scan(reader->record,
                                        record_ended_index(record->assignment, RowChange::rep_ends),
                                        GetActiveSnapshot(), count);
    reader->past->xs_snapshot = GetActiveSnapshot();
    index_rescan(reader->past, keys, count, NULL, 0);
    MemoryContextSwitchTo(caller);
}

static bool past_next(SlaReader* reader) {
    MemoryContext caller = MemoryContextSwitchTo(reader->context);
    bool found = index_getnext_slot(reader->past, BackwardScanDirection, reader->slot);
    MemoryContextSwitchTo(caller);
    return found;
}

static void note_missed(SlaPast* past, int* room, int64 rep) {
    if (past->missed_count == *room) { // rarely
        *room = Max(8, *room * 2);
        int64* wider = static_cast<int64*>(palloc(sizeof(int64) * *room));
        if (past->missed_count > 0)
            memcpy(wider, past->missed, sizeof(int64) * past->missed_count);
        past->missed = wider;
    }
    past->missed[past->missed_count++] = rep;
}

void sla_past(const SlaRecord* record, SlaReader* reader, const SlaEpisode* e, SlaPast* past) {
    *past = {};
    int room = 0;
    TupleTableSlot* slot = reader->slot;
    PushActiveSnapshot(GetLatestSnapshot());
    past_begin(record, reader, e);
    while (past_next(reader)) {
        bool isnull, no_rep;
        int32 number = DatumGetInt32(slot_getattr(slot, record->column[S_EPISODE], &isnull));
        past->last_number = Max(past->last_number, number);
        int64 rep = DatumGetInt64(slot_getattr(slot, record->column[S_REP], &no_rep));
        (void)slot_getattr(slot, record->column[S_BREACHED_AT], &isnull);
        if (!no_rep && !isnull)
            note_missed(past, &room, rep);
    }
    ExecClearTuple(slot);
    PopActiveSnapshot();
}
