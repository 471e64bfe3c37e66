// Locking and updating leads without the executor; see lead_direct.h.
#include "lead_direct.h"

extern "C" {
#include "access/skey.h"
#include "executor/execdesc.h"
#include "nodes/execnodes.h"
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
static bool find_and_lock(const DirectLead* lead, Relation relation, Relation index,
                          TupleTableSlot* row, const Datum* values, bool skip) {
    ScanKeyData keys[2];
    for (int i = 0; i < lead->keys; i++)
        ScanKeyEntryInitialize(&keys[i], 0, (AttrNumber)(i + 1), BTEqualStrategyNumber, InvalidOid,
                               lead->collation[i], lead->equal[i], values[i]);
    IndexScanDesc scan = begin_index_scan(relation, index, GetActiveSnapshot(), lead->keys);
    index_rescan(scan, keys, lead->keys, NULL, 0);
    bool found = index_getnext_slot(scan, ForwardScanDirection, row);
    index_endscan(scan);
    return found && lock_row(lead, relation, row, values, skip);
}

bool direct_allowed(const DirectLead* lead) {
    return !lead->outdated && !IsolationUsesXactSnapshot() && !XactReadOnly;
}

bool direct_lock(DirectLead* lead, Datum key, int64 tenant, bool skip, bool* found, char** was) {
    if (!direct_allowed(lead))
        return false;
    Relation relation = table_open(lead->relation, RowExclusiveLock);
    if (lead->outdated) { // it changed before the lock was ours
        table_close(relation, NoLock);
        return false;
    }
    Relation index = index_open(lead->index, RowExclusiveLock);
    TupleTableSlot* row = table_slot_create(relation, NULL);
    Datum values[2];
    key_values(lead, key, tenant, values);
    PushActiveSnapshot(GetLatestSnapshot());
    *found = find_and_lock(lead, relation, index, row, values, skip);
    PopActiveSnapshot();
    *was = NULL;
    if (*found) {
        bool isnull;
        Datum owner = slot_getattr(row, lead->owner, &isnull);
        if (!isnull)
            *was = OidOutputFunctionCall(lead->owner_output, owner);
        lead->locked = row->tts_tid;
    }
    ExecDropSingleTupleTableSlot(row);
    index_close(index, NoLock);
    table_close(relation, NoLock);
    return true;
}

// A foreign key that is checked later looks at the row as this transaction inserted it; it has to
// be told of the change.
static bool is_own_row(TupleTableSlot* row) {
    bool isnull;
    Datum xmin = slot_getsysattr(row, MinTransactionIdAttributeNumber, &isnull);
    return TransactionIdIsCurrentTransactionId(DatumGetTransactionId(xmin));
}

static void update_row(const DirectLead* lead, Relation relation, TupleTableSlot* was,
                       const Datum* owner) {
    TupleTableSlot* row = MakeSingleTupleTableSlot(RelationGetDescr(relation), &TTSOpsVirtual);
    int columns = RelationGetDescr(relation)->natts;
    slot_getallattrs(was);
    memcpy(row->tts_values, was->tts_values, sizeof(Datum) * columns);
    memcpy(row->tts_isnull, was->tts_isnull, sizeof(bool) * columns);
    row->tts_values[lead->owner - 1] = owner == NULL ? (Datum)0 : *owner;
    row->tts_isnull[lead->owner - 1] = owner == NULL;
    ExecStoreVirtualTuple(row);
    row->tts_tableOid = RelationGetRelid(relation);

    EState* executor = CreateExecutorState();
    ResultRelInfo* result = makeNode(ResultRelInfo);
    InitResultRelInfo(result, relation, 0, NULL, 0);
    result->ri_TrigDesc = NULL; // none has a say
    ExecOpenIndices(result, false);
    executor->es_snapshot = GetActiveSnapshot();
    EPQState recheck = {}; // for triggers alone
    ExecSimpleRelationUpdate(result, executor, &recheck, was, row);
    ExecCloseIndices(result);
    FreeExecutorState(executor);
    ExecDropSingleTupleTableSlot(row);
}

bool direct_read(const DirectLead* lead, Relation relation, TupleTableSlot* row) {
    ItemPointerData at = lead->locked;
    return direct_allowed(lead) && ItemPointerIsValid(&at) &&
           table_tuple_fetch_row_version(relation, &at, SnapshotSelf, row);
}

bool direct_update(DirectLead* lead, const Datum* owner) {
    if (!direct_allowed(lead) || !ItemPointerIsValid(&lead->locked))
        return false;
    Relation relation = table_open(lead->relation, RowExclusiveLock);
    TupleTableSlot* was = table_slot_create(relation, NULL);
    bool done = !lead->outdated &&
                table_tuple_fetch_row_version(relation, &lead->locked, SnapshotSelf, was) &&
                !(lead->has_foreign_keys && is_own_row(was));
    ItemPointerSetInvalid(&lead->locked);
    if (done) {
        PushActiveSnapshot(GetLatestSnapshot());
        update_row(lead, relation, was, owner);
        PopActiveSnapshot();
        CommandCounterIncrement();
    }
    ExecDropSingleTupleTableSlot(was);
    table_close(relation, NoLock);
    return done;
}
