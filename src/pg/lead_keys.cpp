// The keys of a lead table, for verify(), which runs as the owner of leadroute's tables on behalf
// of admins. The table is scanned and not queried: to plan a query is to evaluate functions that
// the table's owner may have put into its constraints and indexes, with our rights.
#include "leadroute.h"

extern "C" {
#include "access/tableam.h"
#include "catalog/pg_inherits.h"
}

struct KeyScan {
    const char* key_column;
    const char* tenant_column; // NULL: all leads are of tenant 0
    int64 tenant;
    ReturnSetInfo* rows;
};

static bool of_tenant(TupleTableSlot* slot, AttrNumber column, Oid type, int64 tenant) {
    bool isnull;
    Datum value = slot_getattr(slot, column, &isnull);
    if (isnull)
        return false;
    if (type == INT2OID)
        return DatumGetInt16(value) == tenant;
    return (type == INT4OID ? DatumGetInt32(value) : DatumGetInt64(value)) == tenant;
}

static void scan_keys(const KeyScan* keys, Relation relation) {
    Oid oid = RelationGetRelid(relation);
    AttrNumber key = get_attnum(oid, keys->key_column);
    AttrNumber tenant = InvalidAttrNumber;
    if (keys->tenant_column != NULL)
        tenant = get_attnum(oid, keys->tenant_column);
    Oid tenant_type =
        tenant == InvalidAttrNumber ? InvalidOid : getBaseType(get_atttype(oid, tenant));
    Oid output;
    bool variable;
    getTypeOutputInfo(getBaseType(get_atttype(oid, key)), &output, &variable);

    MemoryContext row_context =
        AllocSetContextCreate(CurrentMemoryContext, "leadroute key", ALLOCSET_SMALL_SIZES);
    TupleTableSlot* slot = table_slot_create(relation, NULL);
    TableScanDesc scan = table_beginscan(relation, GetActiveSnapshot(), 0, NULL);
    while (table_scan_getnextslot(scan, ForwardScanDirection, slot)) {
        CHECK_FOR_INTERRUPTS();
        if (tenant != InvalidAttrNumber && !of_tenant(slot, tenant, tenant_type, keys->tenant))
            continue;
        MemoryContext caller = MemoryContextSwitchTo(row_context);
        bool isnull;
        Datum value =
            CStringGetTextDatum(OidOutputFunctionCall(output, slot_getattr(slot, key, &isnull)));
        tuplestore_putvalues(keys->rows->setResult, keys->rows->setDesc, &value, &isnull);
        MemoryContextSwitchTo(caller);
        MemoryContextReset(row_context);
    }
    table_endscan(scan);
    ExecDropSingleTupleTableSlot(slot);
    MemoryContextDelete(row_context);
}

extern "C" {
PG_FUNCTION_INFO_V1(leadroute_lead_keys);

// _lead_keys(relation regclass, key_column name, tenant_column name, tenant bigint) -> SETOF text
Datum leadroute_lead_keys(PG_FUNCTION_ARGS) {
    KeyScan keys = {};
    keys.key_column = NameStr(*PG_GETARG_NAME(1));
    if (!PG_ARGISNULL(2))
        keys.tenant_column = NameStr(*PG_GETARG_NAME(2));
    keys.tenant = PG_GETARG_INT64(3);
    keys.rows = start_values(fcinfo);
    if (keys.tenant_column == NULL && keys.tenant != 0)
        return (Datum)0;
    ListCell* cell;
    foreach (cell, find_all_inheritors(PG_GETARG_OID(0), AccessShareLock, NULL)) {
        Relation relation = table_open(lfirst_oid(cell), NoLock);
        if (relation->rd_rel->relkind == RELKIND_RELATION)
            scan_keys(&keys, relation);
        table_close(relation, NoLock);
    }
    return (Datum)0;
}
}
