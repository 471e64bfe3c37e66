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

// One scan looks for all leads; what it allocates on its way is good as long as it is.
static bool find_row(const DirectLead* lead, DirectWork* work, ScanKeyData* keys) {
    MemoryContext caller = MemoryContextSwitchTo(work->context);
    if (work->index == NULL)
        work->index = index_open(lead->index, RowExclusiveLock);
    if (work->scan == NULL)
        work->scan = begin_index_scan(work->relation, work->index, GetActiveSnapshot(), lead->keys);
    work->scan->xs_snapshot = GetActiveSnapshot();
    index_rescan(work->scan, keys, lead->keys, NULL, 0);
    bool found = index_getnext_slot(work->scan, ForwardScanDirection, work->row);
    // which else keeps its page, and keeps it from being pruned
    table_index_fetch_reset(work->scan->xs_heapfetch);
    MemoryContextSwitchTo(caller);
    return found;
}

// Finds and locks the row; it is in `row` then.
static bool find_and_lock(const DirectLead* lead, DirectWork* work, const Datum* values,
                          bool skip) {
    ScanKeyData keys[2];
    for (int i = 0; i < lead->keys; i++)
        ScanKeyEntryInitialize(&keys[i], 0, (AttrNumber)(i + 1), BTEqualStrategyNumber, InvalidOid,
                               lead->collation[i], lead->equal[i], values[i]);
    return find_row(lead, work, keys) && lock_row(lead, work->relation, work->row, values, skip);
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
    if (work->now != NULL)
        ExecDropSingleTupleTableSlot(work->now);
    if (work->change != NULL)
        ExecDropSingleTupleTableSlot(work->change);
    ExecDropSingleTupleTableSlot(work->row);
    if (work->scan != NULL)
        index_endscan(work->scan);
    if (work->index != NULL)
        index_close(work->index, NoLock);
    table_close(work->relation, NoLock);
    *work = {};
}

bool direct_lock(const DirectLead* lead, DirectWork* work, Datum key, int64 tenant, bool skip,
                 char** was) {
    Datum values[2];
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

// The row as it stands, which the lock has found. NULL: it is there no more.
static TupleTableSlot* row_at(DirectWork* work, ItemPointer at) {
    if (!TTS_EMPTY(work->row) && ItemPointerEquals(&work->row->tts_tid, at))
        return work->row;
    if (work->now == NULL) {
        MemoryContext caller = MemoryContextSwitchTo(work->context);
        work->now = table_slot_create(work->relation, NULL);
        MemoryContextSwitchTo(caller);
    }
    return table_tuple_fetch_row_version(work->relation, at, SnapshotSelf, work->now) ? work->now
                                                                                      : NULL;
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
static TupleTableSlot* with_owner(const DirectLead* lead, DirectWork* work, TupleTableSlot* now,
                                  const Datum* owner) {
    if (work->change == NULL) {
        MemoryContext caller = MemoryContextSwitchTo(work->context);
        work->change = MakeSingleTupleTableSlot(RelationGetDescr(work->relation), &TTSOpsVirtual);
        MemoryContextSwitchTo(caller);
    }
    TupleTableSlot* row = ExecClearTuple(work->change);
    int columns = RelationGetDescr(work->relation)->natts;
    slot_getallattrs(now);
    memcpy(row->tts_values, now->tts_values, sizeof(Datum) * columns);
    memcpy(row->tts_isnull, now->tts_isnull, sizeof(bool) * columns);
    row->tts_values[lead->owner - 1] = owner == NULL ? (Datum)0 : *owner;
    row->tts_isnull[lead->owner - 1] = owner == NULL;
    ExecStoreVirtualTuple(row);
    row->tts_tableOid = RelationGetRelid(work->relation);
    return row;
}

static void check_constraints(DirectWork* work, const LeadRights* rights, TupleTableSlot* row,
                              bool has_owner) {
    const TupleConstr* constraints = RelationGetDescr(work->relation)->constr;
    if (constraints == NULL ||
        (constraints->num_check == 0 && (has_owner || !constraints->has_not_null)))
        return;
    LeadScope scope;
    lead_scope_begin(rights, &scope);
    prepare_executor(work);
    ExecConstraints(work->result, row, work->executor);
    ResetPerTupleExprContext(work->executor);
    lead_scope_end(&scope);
}

// What ExecSimpleRelationUpdate() does, but for what nobody has a use: where no constraint asks
// and the row stays on its page there is no need of an executor. False: this transaction has
// changed the row since it was locked.
static bool update_lead(const DirectLead* lead, DirectWork* work, const LeadRights* rights,
                        TupleTableSlot* now, const Datum* owner) {
    ItemPointerData at = now->tts_tid;
    TupleTableSlot* row = with_owner(lead, work, now, owner);
    IndexesToEnter indexes;
    CheckCmdReplicaIdentity(work->relation, CMD_UPDATE);
    check_constraints(work, rights, row, owner != NULL);
    if (update_row(work->relation, &at, row, GetActiveSnapshot(), &indexes) != TM_Ok)
        return false;
    if (!none_to_enter(indexes)) {
        LeadScope scope;
        lead_scope_begin(rights, &scope);
        prepare_executor(work);
        enter_indexes(work->result, row, work->executor, indexes);
        ResetPerTupleExprContext(work->executor);
        lead_scope_end(&scope);
    }
    return true;
}

bool direct_update(const DirectLead* lead, DirectWork* work, const LeadRights* rights,
                   ItemPointer row, const Datum* owner) {
    TupleTableSlot* now = lead->outdated ? NULL : row_at(work, row);
    bool done = now != NULL && !(lead->has_foreign_keys && is_own_row(now));
    if (done) {
        PushActiveSnapshot(GetLatestSnapshot());
        done = update_lead(lead, work, rights, now, owner);
        PopActiveSnapshot();
        CommandCounterIncrement();
        ExecClearTuple(work->change);
    }
    if (work->now != NULL)
        ExecClearTuple(work->now);
    return done;
}
