// Locking and updating leads without the executor; see lead_direct.h.
#include "lead_direct.h"

extern "C" {
#include "access/skey.h"
#include "executor/execdesc.h"
}

static void key_values(const DirectLead* lead, Datum key, int64 tenant, Datum* values) {
    for (int i = 0; i < lead->keys; i++)
        values[i] = lead->is_tenant[i] ? Int64GetDatum(tenant) : key;
}

// A row that was changed while it was waited for may have another key by now.
static bool has_key(const DirectLead* lead, TupleTableSlot* row, const Datum* values) {
    for (int i = 0; i < lead->keys; i++) {
        bool isnull;
        Datum value = slot_getattr(row, lead->attribute[i], &isnull);
        if (isnull || !DatumGetBool(OidFunctionCall2Coll(lead->equal[i], lead->collation[i], value,
                                                         values[i])))
            return false;
    }
    return true;
}

static bool lock_row(const DirectLead* lead, Relation relation, TupleTableSlot* row,
                     const Datum* values, bool skip) {
    ItemPointerData at = row->tts_tid;
    TM_FailureData failure = {};
    TM_Result result =
        table_tuple_lock(relation, &at, GetActiveSnapshot(), row, GetCurrentCommandId(false),
                         LockTupleNoKeyExclusive, skip ? LockWaitSkip : LockWaitBlock,
                         TUPLE_LOCK_FLAG_FIND_LAST_VERSION, &failure);
    switch (result) {
    case TM_Ok:
        return !failure.traversed || has_key(lead, row, values);
    case TM_WouldBlock:
    case TM_Deleted:
    case TM_SelfModified:
        return false;
    default:
        elog(ERROR, "cannot lock a lead: %d", static_cast<int>(result));
    }
}

// Finds and locks the row; it is in `row` then.
static bool find_and_lock(const DirectLead* lead, DirectWork* work, const Datum* values,
                          bool skip) {
    ScanKeyData keys[2];
    for (int i = 0; i < lead->keys; i++)
        ScanKeyEntryInitialize(&keys[i], 0, (AttrNumber)(i + 1), BTEqualStrategyNumber, InvalidOid,
                               lead->collation[i], lead->equal[i], values[i]);
    IndexScanDesc scan =
        begin_index_scan(work->relation, work->index, GetActiveSnapshot(), lead->keys);
    index_rescan(scan, keys, lead->keys, NULL, 0);
    bool found = index_getnext_slot(scan, ForwardScanDirection, work->row);
    index_endscan(scan);
    return found && lock_row(lead, work->relation, work->row, values, skip);
}

bool direct_allowed(const DirectLead* lead) {
    return !lead->outdated && !IsolationUsesXactSnapshot() && !XactReadOnly;
}

bool direct_open(const DirectLead* lead, DirectWork* work) {
    *work = {};
    if (!direct_allowed(lead))
        return false;
    work->relation = table_open(lead->relation, RowExclusiveLock);
    if (lead->outdated) { // it changed before the lock was ours
        table_close(work->relation, NoLock);
        work->relation = NULL;
        return false;
    }
    work->context = CurrentMemoryContext;
    work->row = table_slot_create(work->relation, NULL);
    return true;
}

void direct_close(DirectWork* work) {
    if (work->result != NULL) {
        ExecCloseIndices(work->result);
        FreeExecutorState(work->executor);
    }
    if (work->now != NULL) {
        ExecDropSingleTupleTableSlot(work->now);
        ExecDropSingleTupleTableSlot(work->change);
    }
    ExecDropSingleTupleTableSlot(work->row);
    if (work->index != NULL)
        index_close(work->index, NoLock);
    table_close(work->relation, NoLock);
    *work = {};
}

bool direct_lock(const DirectLead* lead, DirectWork* work, Datum key, int64 tenant, bool skip,
                 char** was) {
    Datum values[2];
    if (work->index == NULL)
        work->index = index_open(lead->index, RowExclusiveLock);
    key_values(lead, key, tenant, values);
    PushActiveSnapshot(GetLatestSnapshot());
    bool found = find_and_lock(lead, work, values, skip);
    PopActiveSnapshot();
    *was = NULL;
    if (!found)
        return false;
    bool isnull;
    Datum owner = slot_getattr(work->row, lead->owner, &isnull);
    if (!isnull)
        *was = OidOutputFunctionCall(lead->owner_output, owner);
    return true;
}

// A foreign key that is checked later looks at the row as this transaction inserted it; it has to
// be told of the change.
static bool is_own_row(TupleTableSlot* row) {
    bool isnull;
    Datum xmin = slot_getsysattr(row, MinTransactionIdAttributeNumber, &isnull);
    return TransactionIdIsCurrentTransactionId(DatumGetTransactionId(xmin));
}

static void prepare_update(DirectWork* work) {
    if (work->now != NULL)
        return;
    MemoryContext caller = MemoryContextSwitchTo(work->context);
    work->now = table_slot_create(work->relation, NULL);
    work->change = MakeSingleTupleTableSlot(RelationGetDescr(work->relation), &TTSOpsVirtual);
    MemoryContextSwitchTo(caller);
}

// InitResultRelInfo() would copy the triggers, none of which has a say.
static void prepare_executor(DirectWork* work) {
    if (work->result == NULL) {
        MemoryContext caller = MemoryContextSwitchTo(work->context);
        work->executor = CreateExecutorState();
        work->result = makeNode(ResultRelInfo);
        work->result->ri_RelationDesc = work->relation;
        ExecOpenIndices(work->result, false);
        MemoryContextSwitchTo(caller);
    }
    work->executor->es_snapshot = GetActiveSnapshot();
}

// The row with its new owner.
static TupleTableSlot* with_owner(const DirectLead* lead, DirectWork* work, const Datum* owner) {
    TupleTableSlot* row = ExecClearTuple(work->change);
    int columns = RelationGetDescr(work->relation)->natts;
    slot_getallattrs(work->now);
    memcpy(row->tts_values, work->now->tts_values, sizeof(Datum) * columns);
    memcpy(row->tts_isnull, work->now->tts_isnull, sizeof(bool) * columns);
    row->tts_values[lead->owner - 1] = owner == NULL ? (Datum)0 : *owner;
    row->tts_isnull[lead->owner - 1] = owner == NULL;
    ExecStoreVirtualTuple(row);
    row->tts_tableOid = RelationGetRelid(work->relation);
    return row;
}

// What ExecSimpleRelationUpdate() does, but for what nobody has a use: where no constraint asks
// and the row stays on its page there is no need of an executor.
static void update_lead(const DirectLead* lead, DirectWork* work, const Datum* owner) {
    const TupleConstr* constraints = RelationGetDescr(work->relation)->constr;
    TupleTableSlot* row = with_owner(lead, work, owner);
    IndexesToEnter indexes;
    CheckCmdReplicaIdentity(work->relation, CMD_UPDATE);
    if (constraints != NULL &&
        (constraints->num_check > 0 || (owner == NULL && constraints->has_not_null))) {
        prepare_executor(work);
        ExecConstraints(work->result, row, work->executor);
    }
    simple_table_tuple_update(work->relation, &work->now->tts_tid, row, GetActiveSnapshot(),
                              &indexes);
    if (!none_to_enter(indexes)) {
        prepare_executor(work);
        enter_indexes(work->result, row, work->executor, indexes);
    }
    if (work->result != NULL)
        ResetPerTupleExprContext(work->executor);
}

bool direct_update(const DirectLead* lead, DirectWork* work, ItemPointer row, const Datum* owner) {
    prepare_update(work);
    bool done = !lead->outdated &&
                table_tuple_fetch_row_version(work->relation, row, SnapshotSelf, work->now) &&
                !(lead->has_foreign_keys && is_own_row(work->now));
    if (done) {
        PushActiveSnapshot(GetLatestSnapshot());
        update_lead(lead, work, owner);
        PopActiveSnapshot();
        CommandCounterIncrement();
    }
    ExecClearTuple(work->change);
    ExecClearTuple(work->now);
    return done;
}
