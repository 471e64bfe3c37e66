// Reading and ending episodes; see record_end.h.
#include "record_end.h"
#include "record.h"
#include "record_change.h"
#include "record_target.h"

extern "C" {
#include "access/skey.h"
#include "utils/fmgroids.h"
}

enum Extra { X_ENDED_AT, X_END_REASON, X_GIVEN_BY, X_TOUCHED_AT, X_TANK_POOL, kExtras };
static const char* const extra_names[kExtras] = {"ended_at", "end_reason", "given_by", "touched_at",
                                                 "tank_pool"};

// Their places in one assignment relation.
static AttrNumber extras[kExtras];
static uint64 extras_described; // as the target was then

static Target* target_known(Oid assignment) {
    Target* target = target_open(assignment);
    if (extras_described == target->described)
        return target;
    for (int i = 0; i < kExtras; i++)
        extras[i] = get_attnum(assignment, extra_names[i]);
    extras_described = target->described;
    return target;
}

// --- reading ---

struct Reader {
    const Target* target;
    Datum values[MaxHeapAttributeNumber];
    bool nulls[MaxHeapAttributeNumber];
};

static Datum value(const Reader* reader, AttrNumber column) {
    return reader->nulls[column - 1] ? (Datum)0 : reader->values[column - 1];
}

static bool present(const Reader* reader, AttrNumber column) {
    return !reader->nulls[column - 1];
}

static void read_row(const Reader* r, Episode* e) {
    const AttrNumber* column = r->target->column;
    e->tenant = DatumGetInt64(value(r, column[C_TENANT]));
    e->lead_table = DatumGetInt32(value(r, column[C_LEAD_TABLE]));
    e->number = DatumGetInt32(value(r, column[C_EPISODE]));
    e->lead_id = TextDatumGetCString(value(r, column[C_LEAD_ID]));
    e->rep = DatumGetInt64(value(r, column[C_REP]));
    e->rule = DatumGetInt64(value(r, column[C_RULE]));
    e->rule_version = DatumGetInt32(value(r, column[C_RULE_VERSION]));
    e->pool = DatumGetInt32(value(r, column[C_POOL]));
    e->decided_at = DatumGetTimestampTz(value(r, column[C_DECIDED_AT]));
    e->method = TextDatumGetCString(value(r, column[C_METHOD]));
    e->label = value(r, column[C_LABEL]);
    e->needs = value(r, column[C_NEEDS]);
    e->avoid = value(r, column[C_AVOID]);
    e->pool_bound = present(r, column[C_POOL_BOUND]);
    e->hops = DatumGetInt32(value(r, column[C_HOPS]));
    e->has_score = present(r, column[C_SCORE]);
    e->score = e->has_score ? DatumGetFloat8(value(r, column[C_SCORE])) : 0;
    e->has_contact = present(r, column[C_CONTACT]);
    e->contact = DatumGetInt64(value(r, column[C_CONTACT]));
    e->given = present(r, extras[X_GIVEN_BY]);
    e->touched = present(r, extras[X_TOUCHED_AT]);
    e->ended = present(r, extras[X_ENDED_AT]);
    e->tank_pool = DatumGetInt32(value(r, extras[X_TANK_POOL]));
}

void episode_take(Oid assignment, TupleTableSlot* slot, Episode* e) {
    static Reader reader;
    reader.target = target_known(assignment);
    e->assignment = assignment;
    e->row = ExecCopySlotHeapTuple(slot);
    heap_deform_tuple(e->row, RelationGetDescr(reader.target->relation), reader.values,
                      reader.nulls);
    read_row(&reader, e);
}

static void lead_keys(ScanKeyData* keys, int64 tenant, int32 lead_table, const char* lead_id) {
    ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(tenant));
    ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(lead_table));
    ScanKeyEntryInitialize(&keys[2], 0, 3, BTEqualStrategyNumber, InvalidOid, DEFAULT_COLLATION_OID,
                           F_TEXTEQ, CStringGetTextDatum(lead_id));
}

bool episode_read(Oid assignment, int64 tenant, int32 lead_table, const char* lead_id,
                  Episode* episode) {
    RecordIndex by_lead;
    (void)target_known(assignment);
    if (!record_index(assignment, RecordKey::open_lead, &by_lead))
        return false;
    ScanKeyData keys[3];
    lead_keys(keys, tenant, lead_table, lead_id);
    PushActiveSnapshot(GetLatestSnapshot());
    IndexScanDesc scan = begin_index_scan(by_lead.record, by_lead.index, GetActiveSnapshot(), 3);
    index_rescan(scan, keys, 3, NULL, 0);
    TupleTableSlot* slot = table_slot_create(by_lead.record, NULL);
    bool found = index_getnext_slot(scan, ForwardScanDirection, slot);
    if (found)
        episode_take(assignment, slot, episode);
    ExecDropSingleTupleTableSlot(slot);
    index_endscan(scan);
    PopActiveSnapshot();
    return found;
}

bool episode_fetch(Oid assignment, ItemPointer row, Episode* episode) {
    Target* target = target_known(assignment);
    TupleTableSlot* slot = table_slot_create(target->relation, NULL);
    PushActiveSnapshot(GetLatestSnapshot());
    bool found = table_tuple_fetch_row_version(target->relation, row, GetActiveSnapshot(), slot);
    if (found)
        episode_take(assignment, slot, episode);
    PopActiveSnapshot();
    ExecDropSingleTupleTableSlot(slot);
    return found && !episode->ended;
}

void episode_carry(const Episode* episode, RecordRow* row) {
    row->tenant = episode->tenant;
    row->lead_table = episode->lead_table;
    row->lead_id = episode->lead_id;
    row->assignment = episode->assignment;
    row->rule = episode->rule;
    row->rule_version = episode->rule_version;
    row->has_label = episode->label != 0;
    row->label = episode->label;
    row->has_contact = episode->has_contact;
    row->contact = episode->contact;
    row->has_score = episode->has_score;
    row->score = episode->score;
    row->needs = episode->needs;
    row->avoid = episode->avoid;
    row->pool_bound = episode->pool_bound;
    row->hops = episode->hops;
}

bool array_has(Datum array, int64 value) {
    if (array == 0)
        return false;
    Datum* elements;
    bool* nulls;
    int count;
    deconstruct_array(DatumGetArrayTypeP(array), INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
                      TYPALIGN_DOUBLE, &elements, &nulls, &count);
    for (int i = 0; i < count; i++)
        if (!nulls[i] && DatumGetInt64(elements[i]) == value)
            return true;
    return false;
}

// --- ending ---

// Of episodes with this key that have ended; 0: there is none.
static int32 last_ended(const Target* target, const Episode* episode) {
    Relation index = record_ended_index(episode->assignment, RowChange::waiting_ends);
    ScanKeyData keys[3];
    lead_keys(keys, episode->tenant, episode->lead_table, episode->lead_id);
    PushActiveSnapshot(GetLatestSnapshot());
    IndexScanDesc scan = begin_index_scan(target->relation, index, GetActiveSnapshot(), 3);
    index_rescan(scan, keys, 3, NULL, 0);
    TupleTableSlot* slot = table_slot_create(target->relation, NULL);
    int32 last = 0;
    bool isnull;
    if (index_getnext_slot(scan, BackwardScanDirection, slot))
        last = DatumGetInt32(slot_getattr(slot, target->column[C_EPISODE], &isnull));
    ExecDropSingleTupleTableSlot(slot);
    index_endscan(scan);
    PopActiveSnapshot();
    return last;
}

bool episode_end(const Episode* episode, const char* reason, TimestampTz at, int32* next) {
    Target* target = target_known(episode->assignment);
    int32 after_last = last_ended(target, episode) + 1;
    int32 number = Max(episode->number, after_last);
    int columns[] = {extras[X_ENDED_AT], extras[X_END_REASON], target->column[C_EPISODE]};
    Datum values[] = {TimestampTzGetDatum(at), CStringGetTextDatum(reason), Int32GetDatum(number)};
    bool nulls[] = {false, false, false};
    HeapTuple ended = heap_modify_tuple_by_cols(episode->row, RelationGetDescr(target->relation),
                                                lengthof(columns), columns, values, nulls);
    ItemPointerData row = episode->row->t_self;
    *next = number + 1;
    return record_change(episode->assignment, RowChange::waiting_ends, &row, ended);
}
