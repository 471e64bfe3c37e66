// placement(): see placement.h. The answer is cached until a relation or a function changes.
#include "placement.h"
#include "shared.h"

extern "C" {
#include "catalog/pg_proc.h"
}

static bool callbacks_registered;
static Oid schema = InvalidOid;   // of leadroute
static Oid record = InvalidOid;   // leadroute.assignment
static Oid function = InvalidOid; // leadroute.placement, when it is not ours but a replacement
static bool resolved;

struct Placed {
    Oid lead;
    int64 tenant;
    Oid assignment;
    bool here;
};
static Placed last = {InvalidOid, 0, InvalidOid, false};

static void forget(void) {
    resolved = false;
    last.assignment = InvalidOid;
}

static void relation_changed(Datum, Oid relation) {
    if (relation == InvalidOid || relation == record || relation == last.assignment ||
        relation == last.lead)
        forget();
}

static void catalog_changed(Datum, int, uint32) {
    forget();
}

static void resolve(void) {
    if (!callbacks_registered) {
        CacheRegisterRelcacheCallback(relation_changed, (Datum)0);
        CacheRegisterSyscacheCallback(PROCOID, catalog_changed, (Datum)0);
        CacheRegisterSyscacheCallback(NAMESPACEOID, catalog_changed, (Datum)0);
        callbacks_registered = true;
    }
    resolved = true;
    function = InvalidOid;
    record = InvalidOid;
    schema = get_namespace_oid("leadroute", true);
    if (!OidIsValid(schema))
        return;
    record = get_relname_relid("assignment", schema);
    Oid arguments[] = {REGCLASSOID, INT8OID};
    oidvector* types = buildoidvector(arguments, 2);
    HeapTuple tuple = SearchSysCache3(PROCNAMEARGSNSP, CStringGetDatum("placement"),
                                      PointerGetDatum(types), ObjectIdGetDatum(schema));
    if (tuple == NULL)
        return;
    Form_pg_proc proc = reinterpret_cast<Form_pg_proc>(GETSTRUCT(tuple));
    if (proc->prolang != ClanguageId)
        function = proc->oid;
    ReleaseSysCache(tuple);
}

Oid leadroute_schema(void) {
    if (!resolved)
        resolve();
    return schema;
}

static void ask_function(Oid lead, int64 tenant) {
    OwnerScope owner;
    owner_scope_begin(&owner);
    SPI_connect();
    Oid types[] = {REGCLASSOID, INT8OID};
    Datum values[] = {ObjectIdGetDatum(lead), Int64GetDatum(tenant)};
    char nulls[] = {OidIsValid(lead) ? ' ' : 'n', ' ', '\0'};
    if (SPI_execute_with_args("SELECT assignment, here FROM leadroute.placement($1, $2)", 2, types,
                              values, nulls, false, 1) != SPI_OK_SELECT ||
        SPI_processed != 1)
        ereport(ERROR,
                (errcode(ERRCODE_LR_CONFIGURATION), errmsg("leadroute.placement() gave no row"),
                 errhint("It has to give one row for every lead relation and tenant.")));
    bool isnull;
    Datum assignment = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
    Oid found = isnull ? InvalidOid : DatumGetObjectId(assignment);
    Datum here = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull);
    bool is_here = !isnull && DatumGetBool(here);
    SPI_finish();
    owner_scope_end(&owner);
    last = {lead, tenant, found, is_here};
}

Oid placement(Oid lead, int64 tenant) {
    if (!resolved)
        resolve();
    if (OidIsValid(function)) {
        if (!OidIsValid(last.assignment) || last.lead != lead || last.tenant != tenant)
            ask_function(lead, tenant);
        bool elsewhere = !last.here || !OidIsValid(last.assignment);
        TenantKey none = {MyDatabaseId, InvalidOid, tenant};
        if (elsewhere && shared_ready())
            slots_displace(&none);
        if (elsewhere)
            ereport(ERROR, (errcode(ERRCODE_LR_OTHER_NODE),
                            errmsg("tenant %lld is served by another node", (long long)tenant),
                            errdetail("Its record is not on this server."),
                            errhint("Connect to the node that leadroute.placement() names.")));
        return last.assignment;
    }
    if (!OidIsValid(record))
        ereport(ERROR, (errcode(ERRCODE_LR_NO_SUCH_OBJECT),
                        errmsg("the extension leadroute is not in this database"),
                        errhint("CREATE EXTENSION leadroute;")));
    return record;
}

extern "C" {
PG_FUNCTION_INFO_V1(leadroute_placement);

// placement(lead regclass, tenant bigint, OUT assignment regclass, OUT here bool): one machine.
Datum leadroute_placement(PG_FUNCTION_ARGS) {
    TupleDesc descriptor;
    if (get_call_result_type(fcinfo, NULL, &descriptor) != TYPEFUNC_COMPOSITE)
        elog(ERROR, "return type must be a row type");
    Datum values[] = {ObjectIdGetDatum(get_relname_relid("assignment", leadroute_schema())),
                      BoolGetDatum(true)};
    bool nulls[] = {false, false};
    HeapTuple tuple = heap_form_tuple(BlessTupleDesc(descriptor), values, nulls);
    PG_RETURN_DATUM(HeapTupleGetDatum(tuple));
}
}
