// Reading and ending episodes; see record_end.h. Which indexes an ended row has to enter is asked
// of the server and kept until the relation changes, as record_target.cpp does for new rows.
#include "record_end.h"
#include "record.h"
#include "record_target.h"

extern "C" {
#include "access/skey.h"
#include "utils/fmgroids.h"
}

enum Extra { X_ENDED_AT, X_END_REASON, X_GIVEN_BY, X_TOUCHED_AT, X_TANK_POOL, kExtras };
static const char* const extra_names[kExtras] = {"ended_at", "end_reason", "given_by", "touched_at",
                                                 "tank_pool"};

struct EndedIndex {
    Oid oid;
    IndexInfo* info;
    ExprState* predicate; // NULL: every row that ends here
};

// What is known of one assignment relation. Lives in a context of its own.
struct Ending {
    MemoryContext context;
    Oid oid;
    bool outdated;
    EState* executor;
    TupleTableSlot* slot;
    AttrNumber extra[kExtras];
    Oid by_episode; // index of ended episodes
    int index_count;
    EndedIndex index[kMaxIndexes];
};
static Ending ending; // on a distributed engine described anew whenever the shard changes
static bool callback_registered;

static void relation_changed(Datum, Oid relation) {
    if (!OidIsValid(relation) || relation == ending.oid)
        ending.outdated = true;
    for (int i = 0; i < ending.index_count; i++)
        ending.outdated = ending.outdated || ending.index[i].oid == relation;
}

// Leaves out the tests that hold for every row without a rep that has ended; true when one never
// does.
static bool never_holds(const Target* target, List** predicate) {
    List* rest = NIL;
    ListCell* cell;
    foreach (cell, *predicate) {
        const NullTest* test = static_cast<const NullTest*>(lfirst(cell));
        bool simple = IsA(test, NullTest) && !test->argisrow && IsA(test->arg, Var);
        AttrNumber column = InvalidAttrNumber;
        if (simple)
            column = reinterpret_cast<const Var*>(test->arg)->varattno;
        bool is_null = simple && test->nulltesttype == IS_NULL;
        bool ended = column == ending.extra[X_ENDED_AT];
        bool rep = column == target->column[C_REP];
        if (!simple || (!ended && !rep))
            rest = lappend(rest, lfirst(cell));
        else if (ended == is_null)
            return true;
    }
    *predicate = rest;
    return false;
}

// On (tenant, lead_table, lead_id, episode)?
static bool is_by_episode(const Target* target, const IndexInfo* info) {
    static const Column columns[] = {C_TENANT, C_LEAD_TABLE, C_LEAD_ID, C_EPISODE};
    if (!info->ii_Unique || info->ii_NumIndexKeyAttrs != 4)
        return false;
    for (int k = 0; k < 4; k++)
        if (info->ii_IndexAttrNumbers[k] != target->column[columns[k]])
            return false;
    return true;
}

static void describe_index(const Target* target, Oid oid) {
    Relation relation = index_open(oid, RowExclusiveLock);
    EndedIndex* index = &ending.index[ending.index_count];
    *index = {oid, BuildIndexInfo(relation), NULL};
    index_close(relation, NoLock);
    List* predicate = index->info->ii_Predicate;
    if (never_holds(target, &predicate))
        return;
    index->predicate = predicate == NIL ? NULL : ExecPrepareQual(predicate, ending.executor);
    if (is_by_episode(target, index->info))
        ending.by_episode = oid;
    ending.index_count++;
}

static void forget(void) {
    if (ending.context != NULL)
        MemoryContextDelete(ending.context);
    memset(static_cast<void*>(&ending), 0, sizeof(ending));
}

static Target* target_known(Oid assignment) {
    Target* target = target_open(assignment);
    if (ending.oid == assignment && !ending.outdated)
        return target;
    if (!callback_registered) {
        CacheRegisterRelcacheCallback(relation_changed, (Datum)0);
        callback_registered = true;
    }
    forget();
    ending.outdated = true; // until all is known: what follows may fail
    ending.context =
        AllocSetContextCreate(TopMemoryContext, "leadroute endings", ALLOCSET_SMALL_SIZES);
    MemoryContext caller = MemoryContextSwitchTo(ending.context);
    ending.executor = CreateExecutorState();
    for (int i = 0; i < kExtras; i++)
        ending.extra[i] = get_attnum(assignment, extra_names[i]);
    ending.oid = assignment;
    ListCell* cell;
    foreach (cell, RelationGetIndexList(target->relation))
        describe_index(target, lfirst_oid(cell));
    ending.slot = MakeSingleTupleTableSlot(CreateTupleDescCopy(RelationGetDescr(target->relation)),
                                           &TTSOpsHeapTuple);
    MemoryContextSwitchTo(caller);
    ending.outdated = false;
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
    e->given = present(r, ending.extra[X_GIVEN_BY]);
    e->touched = present(r, ending.extra[X_TOUCHED_AT]);
    e->ended = present(r, ending.extra[X_ENDED_AT]);
    e->tank_pool = DatumGetInt32(value(r, ending.extra[X_TANK_POOL]));
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
    Relation index = index_open(ending.by_episode, RowExclusiveLock);
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
    index_close(index, NoLock);
    return last;
}

static void enter_index(const Target* target, const EndedIndex* entry) {
    ExprContext* context = GetPerTupleExprContext(ending.executor);
    context->ecxt_scantuple = ending.slot;
    if (entry->predicate != NULL && !ExecQual(entry->predicate, context))
        return;
    Relation index = index_open(entry->oid, RowExclusiveLock);
    Datum values[INDEX_MAX_KEYS];
    bool nulls[INDEX_MAX_KEYS];
    FormIndexDatum(entry->info, ending.slot, ending.executor, values, nulls);
    (void)index_insert(index, values, nulls, &ending.slot->tts_tid, target->relation,
                       entry->info->ii_Unique ? UNIQUE_CHECK_YES : UNIQUE_CHECK_NO, false,
                       entry->info);
    index_close(index, NoLock);
}

bool episode_end(const Episode* episode, const char* reason, TimestampTz at, int32* next) {
    Target* target = target_known(episode->assignment);
    if (!OidIsValid(ending.by_episode))
        elog(ERROR, "leadroute.assignment has no index of ended episodes");
    int32 number = Max(episode->number, last_ended(target, episode) + 1);
    int columns[] = {ending.extra[X_ENDED_AT], ending.extra[X_END_REASON],
                     target->column[C_EPISODE]};
    Datum values[] = {TimestampTzGetDatum(at), CStringGetTextDatum(reason), Int32GetDatum(number)};
    bool nulls[] = {false, false, false};
    HeapTuple ended = heap_modify_tuple_by_cols(episode->row, RelationGetDescr(target->relation),
                                                lengthof(columns), columns, values, nulls);
    ItemPointerData row = episode->row->t_self;
    ExecStoreHeapTuple(ended, ending.slot, false);
    PushActiveSnapshot(GetLatestSnapshot());
    bool done = update_row(target->relation, &row, ending.slot, GetActiveSnapshot()) == TM_Ok;
    PopActiveSnapshot();
    for (int i = 0; done && i < ending.index_count; i++)
        enter_index(target, &ending.index[i]);
    ResetPerTupleExprContext(ending.executor);
    ExecClearTuple(ending.slot);
    *next = number + 1;
    return done;
}
