// See record_change.h.
#include "record_change.h"
#include "record_target.h"

constexpr int kChanges = 3;

struct ChangedIndex {
    Oid oid;
    Relation relation; // open in this transaction, or NULL
    IndexInfo* info;
    ExprState* predicate; // NULL: every row that is changed so
};

// What is known of one assignment relation. Lives in a context of its own.
struct Changing {
    MemoryContext context;
    Oid oid;
    uint64 described; // as the target was then; 0: not yet
    EState* executor;
    TupleTableSlot* slot;  // of a row that is formed
    TupleTableSlot* plain; // of one that is not
    int by_episode;        // index of ended episodes, -1: none
    int index_count;
    ChangedIndex index[kMaxIndexes];
};
static Changing changings[kChanges]; // on a distributed engine described anew for each shard

// Leaves out the tests that hold for every row that is changed so; true when one never does.
static bool never_holds(const Target* target, RowChange change, AttrNumber ended_at,
                        List** predicate) {
    List* rest = NIL;
    ListCell* cell;
    foreach (cell, *predicate) {
        const NullTest* test = static_cast<const NullTest*>(lfirst(cell));
        bool simple = IsA(test, NullTest) && !test->argisrow && IsA(test->arg, Var);
        AttrNumber column = InvalidAttrNumber;
        if (simple)
            column = reinterpret_cast<const Var*>(test->arg)->varattno;
        bool ended = column == ended_at, rep = column == target->column[C_REP];
        bool is_null =
            ended ? change == RowChange::goes_on : rep && change == RowChange::waiting_ends;
        if (!simple || (!ended && !rep))
            rest = lappend(rest, lfirst(cell));
        else if (is_null != (test->nulltesttype == IS_NULL))
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

static void describe_index(Changing* changing, const Target* target, RowChange change, Oid oid) {
    Relation relation = index_open(oid, RowExclusiveLock);
    ChangedIndex* index = &changing->index[changing->index_count];
    *index = {oid, NULL, BuildIndexInfo(relation), NULL};
    index_close(relation, NoLock);
    List* predicate = index->info->ii_Predicate;
    if (never_holds(target, change, get_attnum(changing->oid, "ended_at"), &predicate))
        return;
    index->predicate = predicate == NIL ? NULL : ExecPrepareQual(predicate, changing->executor);
    if (is_by_episode(target, index->info))
        changing->by_episode = changing->index_count;
    changing->index_count++;
}

static void close_indexes(Changing* changing) {
    for (int i = 0; i < changing->index_count; i++) {
        if (changing->index[i].relation != NULL)
            index_close(changing->index[i].relation, NoLock);
        changing->index[i].relation = NULL;
    }
}

static void forget(Changing* changing) {
    close_indexes(changing);
    if (changing->context != NULL)
        MemoryContextDelete(changing->context);
    memset(static_cast<void*>(changing), 0, sizeof(*changing));
}

// As the handles of the record, these belong to the whole transaction.
static void describe(Changing* changing, const Target* target, RowChange change) {
    forget(changing);
    changing->context =
        AllocSetContextCreate(TopMemoryContext, "leadroute changes", ALLOCSET_SMALL_SIZES);
    MemoryContext caller = MemoryContextSwitchTo(changing->context);
    changing->executor = CreateExecutorState();
    changing->oid = RelationGetRelid(target->relation);
    changing->by_episode = -1;
    ListCell* cell;
    foreach (cell, RelationGetIndexList(target->relation))
        describe_index(changing, target, change, lfirst_oid(cell));
    TupleDesc columns = CreateTupleDescCopy(RelationGetDescr(target->relation));
    changing->slot = MakeSingleTupleTableSlot(columns, &TTSOpsHeapTuple);
    changing->plain = MakeSingleTupleTableSlot(columns, &TTSOpsVirtual);
    MemoryContextSwitchTo(caller);
    changing->described = target->described; // what came before may have failed
}

static Changing* changing_known(Target* target, RowChange change) {
    Changing* changing = &changings[static_cast<int>(change)];
    if (changing->described == target->described)
        return changing;
    ResourceOwner caller = CurrentResourceOwner;
    CurrentResourceOwner = TopTransactionResourceOwner;
    describe(changing, target, change);
    CurrentResourceOwner = caller;
    return changing;
}

static Relation index_of(ChangedIndex* index) {
    if (index->relation == NULL) {
        ResourceOwner caller = CurrentResourceOwner;
        CurrentResourceOwner = TopTransactionResourceOwner;
        index->relation = index_open(index->oid, RowExclusiveLock);
        CurrentResourceOwner = caller;
    }
    return index->relation;
}

static void enter_index(const Changing* changing, const Target* target, ChangedIndex* index,
                        TupleTableSlot* slot) {
    ExprContext* context = GetPerTupleExprContext(changing->executor);
    context->ecxt_scantuple = slot;
    if (index->predicate != NULL && !ExecQual(index->predicate, context))
        return;
    Datum values[INDEX_MAX_KEYS];
    bool nulls[INDEX_MAX_KEYS];
    FormIndexDatum(index->info, slot, changing->executor, values, nulls);
    (void)index_insert(index_of(index), values, nulls, &slot->tts_tid, target->relation,
                       index->info->ii_Unique ? UNIQUE_CHECK_YES : UNIQUE_CHECK_NO, false,
                       index->info);
}

static bool change_row(Target* target, Changing* changing, ItemPointer row, TupleTableSlot* slot) {
    PushActiveSnapshot(GetLatestSnapshot());
    IndexesToEnter indexes; // all: every change is one of an indexed column
    bool done = update_row(target->relation, row, slot, GetActiveSnapshot(), &indexes) == TM_Ok;
    PopActiveSnapshot();
    for (int i = 0; done && i < changing->index_count; i++)
        enter_index(changing, target, &changing->index[i], slot);
    ResetPerTupleExprContext(changing->executor);
    if (done)
        *row = slot->tts_tid;
    ExecClearTuple(slot);
    return done;
}

bool record_change(Oid assignment, RowChange change, ItemPointer row, HeapTuple changed) {
    Target* target = target_open(assignment);
    Changing* changing = changing_known(target, change);
    ExecStoreHeapTuple(changed, changing->slot, false);
    return change_row(target, changing, row, changing->slot);
}

bool record_change_values(Oid assignment, RowChange change, ItemPointer row, const Datum* values,
                          const bool* nulls) {
    Target* target = target_open(assignment);
    Changing* changing = changing_known(target, change);
    TupleTableSlot* slot = ExecClearTuple(changing->plain);
    int columns = slot->tts_tupleDescriptor->natts;
    memcpy(slot->tts_values, values, sizeof(Datum) * columns);
    memcpy(slot->tts_isnull, nulls, sizeof(bool) * columns);
    ExecStoreVirtualTuple(slot);
    return change_row(target, changing, row, slot);
}

Relation record_ended_index(Oid assignment, RowChange change) {
    Changing* changing = changing_known(target_open(assignment), change);
    if (changing->by_episode < 0)
        elog(ERROR, "leadroute.assignment has no index of ended episodes");
    return index_of(&changing->index[changing->by_episode]);
}

void record_change_close(void) {
    for (Changing& changing : changings)
        close_indexes(&changing);
}

void record_change_abandon(void) {
    for (Changing& changing : changings)
        for (int i = 0; i < changing.index_count; i++)
            changing.index[i].relation = NULL;
}
