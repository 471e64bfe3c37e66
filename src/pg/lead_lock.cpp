// See lead_lock.h; what ExecLockRows() does, for one row.
#include "lead_lock.h"

extern "C" {
#include "access/nbtree.h"
#include "access/skey.h"
#include "catalog/pg_am.h"
}

// A partition, a child, a view, or a policy that binds the table's owner, too, is for a query.
static bool is_plain(Relation relation) {
    const Form_pg_class form = relation->rd_rel;
    return form->relkind == RELKIND_RELATION && !form->relhassubclass &&
           !form->relforcerowsecurity && form->relam == HEAP_TABLE_AM_OID;
}

static void read_index(Relation index, AttrNumber tenant, Oid tenant_type, LeadFinder* finder) {
    const Form_pg_index form = index->rd_index;
    finder->count = form->indnkeyatts;
    finder->usable = finder->count <= 2 && form->indisvalid && form->indimmediate &&
                     index->rd_rel->relam == BTREE_AM_OID;
    for (int i = 0; finder->usable && i < finder->count; i++) {
        AttrNumber column = form->indkey.values[i];
        Oid type = index->rd_opcintype[i];
        RegProcedure equal = get_opcode(
            get_opfamily_member(index->rd_opfamily[i], type, type, BTEqualStrategyNumber));
        finder->key[i] = {column, column == tenant, tenant_type, equal, index->rd_indcollation[i]};
        finder->usable = OidIsValid(equal);
    }
}

void lead_finder(Relation relation, const char* key, const char* tenant, const char* owner,
                 LeadFinder* finder) {
    memset(static_cast<void*>(finder), 0, sizeof(*finder));
    Oid oid = RelationGetRelid(relation);
    Oid primary_key = is_plain(relation) ? RelationGetPrimaryKeyIndex(relation) : InvalidOid;
    if (!OidIsValid(primary_key))
        return;
    AttrNumber tenant_column = InvalidAttrNumber;
    if (tenant != NULL)
        tenant_column = get_attnum(oid, tenant);
    finder->index = primary_key;
    finder->owner = get_attnum(oid, owner);
    bool variable;
    getTypeOutputInfo(get_atttype(oid, finder->owner), &finder->owner_output, &variable);
    Relation index = index_open(primary_key, AccessShareLock);
    Oid tenant_type = InvalidOid;
    if (tenant_column != InvalidAttrNumber)
        tenant_type = getBaseType(get_atttype(oid, tenant_column));
    read_index(index, tenant_column, tenant_type, finder);
    index_close(index, AccessShareLock);
    AttrNumber key_column = get_attnum(oid, key);
    bool has_key = false;
    for (int i = 0; i < finder->count && i < 2; i++)
        has_key = has_key || finder->key[i].column == key_column;
    // a tenant that is no part of the key is another condition
    if (!has_key || (tenant != NULL && finder->count != 2))
        finder->usable = false;
}

static Datum tenant_value(Oid type, int64 tenant, bool* known) {
    if (type == INT8OID)
        return Int64GetDatum(tenant);
    if (type == INT4OID) {
        *known = tenant >= PG_INT32_MIN && tenant <= PG_INT32_MAX;
        return Int32GetDatum(static_cast<int32>(tenant));
    }
    *known = type == INT2OID && tenant >= PG_INT16_MIN && tenant <= PG_INT16_MAX;
    return Int16GetDatum(static_cast<int16>(tenant));
}

// False: no row can be meant.
static bool make_keys(const LeadFinder* finder, Datum key, int64 tenant, ScanKeyData* keys) {
    bool known = true;
    for (int i = 0; i < finder->count; i++) {
        Datum value = key;
        if (finder->key[i].tenant)
            value = tenant_value(finder->key[i].tenant_type, tenant, &known);
        ScanKeyEntryInitialize(&keys[i], 0, static_cast<AttrNumber>(i + 1), BTEqualStrategyNumber,
                               InvalidOid, finder->key[i].collation, finder->key[i].equal, value);
    }
    return known;
}

// A later version of the row, which is locked now: is it still the one that was looked for?
static bool same_key(const LeadFinder* finder, TupleTableSlot* slot, ScanKeyData* keys) {
    for (int i = 0; i < finder->count; i++) {
        bool isnull;
        Datum value = slot_getattr(slot, finder->key[i].column, &isnull);
        if (isnull || !DatumGetBool(FunctionCall2Coll(&keys[i].sk_func, keys[i].sk_collation, value,
                                                      keys[i].sk_argument)))
            return false;
    }
    return true;
}

[[noreturn]] static void cannot_serialize(const char* what) {
    ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
                    errmsg("could not serialize access due to concurrent %s", what)));
}

static bool lock_row(Relation table, const LeadFinder* finder, TupleTableSlot* slot,
                     ScanKeyData* keys, bool skip) {
    TM_FailureData failure;
    ItemPointerData row = slot->tts_tid;
    uint8 flags = TUPLE_LOCK_FLAG_LOCK_UPDATE_IN_PROGRESS;
    if (!IsolationUsesXactSnapshot())
        flags |= TUPLE_LOCK_FLAG_FIND_LAST_VERSION;
    switch (table_tuple_lock(table, &row, GetActiveSnapshot(), slot, GetCurrentCommandId(true),
                             LockTupleNoKeyExclusive, skip ? LockWaitSkip : LockWaitBlock, flags,
                             &failure)) {
    case TM_Ok:
        return !failure.traversed || same_key(finder, slot, keys);
    case TM_Updated:
        cannot_serialize("update");
    case TM_Deleted:
        if (IsolationUsesXactSnapshot())
            cannot_serialize("update");
        return false;
    default: // others have it locked, or this very command has changed it
        return false;
    }
}

bool lead_find_lock(Oid relation, const LeadFinder* finder, Datum key, int64 tenant, bool skip,
                    char** was) {
    ScanKeyData keys[2];
    *was = NULL;
    if (!make_keys(finder, key, tenant, keys))
        return false;
    Relation table = table_open(relation, NoLock);
    Relation index = index_open(finder->index, AccessShareLock);
    TupleTableSlot* slot = table_slot_create(table, NULL);
    PushActiveSnapshot(GetTransactionSnapshot());
    IndexScanDesc scan = begin_index_scan(table, index, GetActiveSnapshot(), finder->count);
    index_rescan(scan, keys, finder->count, NULL, 0);
    bool found = index_getnext_slot(scan, ForwardScanDirection, slot);
    index_endscan(scan);
    found = found && lock_row(table, finder, slot, keys, skip);
    if (found) {
        bool isnull;
        Datum owner = slot_getattr(slot, finder->owner, &isnull);
        if (!isnull)
            *was = OidOutputFunctionCall(finder->owner_output, owner);
    }
    PopActiveSnapshot();
    ExecDropSingleTupleTableSlot(slot);
    index_close(index, NoLock);
    table_close(table, NoLock);
    return found;
}
