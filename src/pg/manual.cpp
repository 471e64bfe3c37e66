// reassign(), release() and route(): SQL functions do the record's part (sql/manual.sql) as
// leadroute's owner, told who calls; the lead's own UPDATE is run here, with the caller's rights
// and settings, so that the triggers and policies of the lead table work as in any UPDATE.
#include "leadroute.h"

#include "lead.h"
#include "owner_told.h"

extern "C" {
#include "catalog/pg_class.h"
#include "utils/typcache.h"
}

constexpr int kMaxArguments = 6; // with the caller

// What the SQL part gives back.
struct OwnerChange {
    bool found; // false: nothing changes
    int64 tenant;
    int32 attachment;
    char* key;
    char* was;
    char* wanted;
    char* statement; // NULL: the lead has its owner
};

static void change_record(FunctionCallInfo fcinfo, const char* query, const Oid* types,
                          OwnerChange* change) {
    int count = PG_NARGS();
    NameData caller;
    namestrcpy(&caller, GetUserNameFromId(GetUserId(), false));
    Datum values[kMaxArguments] = {NameGetDatum(&caller)};
    char nulls[kMaxArguments] = {' '};
    for (int i = 0; i < count; i++) {
        nulls[i + 1] = PG_ARGISNULL(i) ? 'n' : ' ';
        if (!PG_ARGISNULL(i))
            values[i + 1] =
                i == 1 ? CStringGetTextDatum(lead_id_argument(fcinfo)) : PG_GETARG_DATUM(i);
    }
    OwnerScope owner;
    owner_scope_begin(&owner);
    if (SPI_execute_with_args(query, count + 1, const_cast<Oid*>(types), values, nulls, false, 1) !=
            SPI_OK_SELECT ||
        SPI_processed != 1)
        elog(ERROR, "cannot change an owner");
    owner_scope_end(&owner);
    HeapTuple row = SPI_tuptable->vals[0];
    TupleDesc columns = SPI_tuptable->tupdesc;
    bool isnull;
    change->attachment = DatumGetInt32(SPI_getbinval(row, columns, 1, &isnull));
    change->found = !isnull;
    change->key = SPI_getvalue(row, columns, 2);
    change->was = SPI_getvalue(row, columns, 3);
    change->wanted = SPI_getvalue(row, columns, 4);
    change->statement = SPI_getvalue(row, columns, 5);
    change->tenant = PG_GETARG_INT64(count - 1);
}

static int update_lead(const OwnerChange* change) {
    OwnerTold told = {change->attachment, change->tenant, change->key, change->wanted, NULL};
    volatile int result = 0;
    owner_told_begin(&told);
    PG_TRY();
    { result = SPI_execute(change->statement, false, 0); }
    PG_FINALLY();
    { owner_told_end(&told); }
    PG_END_TRY();
    return result;
}

static bool same_text(const char* a, const char* b) {
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

// A trigger that names another owner is the app's own choice, and recorded as that; one that keeps
// the owner would part lead and record.
static void change_lead(const OwnerChange* change) {
    int result = update_lead(change);
    if (result != SPI_OK_UPDATE_RETURNING)
        elog(ERROR, "cannot update a lead: %s", SPI_result_code_string(result));
    char* owner =
        SPI_processed == 1 ? SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1) : NULL;
    if (SPI_processed == 1 && (same_text(owner, change->wanted) || !same_text(owner, change->was)))
        return;
    ereport(ERROR,
            (errcode(ERRCODE_LR_NOT_ALLOWED),
             errmsg("the owner of lead %s did not change", change->key),
             errdetail("A trigger, rule or policy of the lead table has left the row as it was."),
             errhint("Nothing is recorded. Let the owner column be updated.")));
}

// The open episode as a row of leadroute.assignment, in the memory context of the caller of SPI.
static Datum open_episode(FunctionCallInfo fcinfo, const OwnerChange* change) {
    Oid types[] = {INT4OID, TEXTOID, INT8OID};
    int last = PG_NARGS() - 1;
    Datum values[] = {Int32GetDatum(change->attachment), CStringGetTextDatum(change->key),
                      PG_GETARG_DATUM(last)};
    OwnerScope owner;
    owner_scope_begin(&owner);
    if (SPI_execute_with_args("SELECT leadroute._open_episode($1, $2, $3)", 3, types, values, NULL,
                              false, 1) != SPI_OK_SELECT ||
        SPI_processed != 1)
        elog(ERROR, "cannot read leadroute.assignment");
    owner_scope_end(&owner);
    bool isnull;
    Datum row = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
    if (isnull)
        elog(ERROR, "lead %s has no open episode", change->key);
    return SPI_datumTransfer(row, false, -1);
}

// True, with the episode, when something was changed or there is one to show.
static bool change_owner(FunctionCallInfo fcinfo, const char* query, const Oid* types,
                         Datum* episode) {
    OwnerChange change;
    SPI_connect();
    change_record(fcinfo, query, types, &change);
    if (change.found) {
        if (change.statement != NULL)
            change_lead(&change);
        *episode = open_episode(fcinfo, &change);
    }
    SPI_finish();
    return change.found;
}

extern "C" {
PG_FUNCTION_INFO_V1(leadroute_reassign);
PG_FUNCTION_INFO_V1(leadroute_release);
PG_FUNCTION_INFO_V1(leadroute_route);
PG_FUNCTION_INFO_V1(leadroute_read_lead);

// reassign(lead_table text, lead_id, rep bigint, reason text, tenant bigint) -> assignment
Datum leadroute_reassign(PG_FUNCTION_ARGS) {
    const Oid types[] = {NAMEOID, TEXTOID, TEXTOID, INT8OID, TEXTOID, INT8OID};
    Datum episode;
    if (!change_owner(fcinfo, "SELECT * FROM leadroute._reassign_for($1, $2, $3, $4, $5, $6)",
                      types, &episode))
        PG_RETURN_NULL();
    PG_RETURN_DATUM(episode);
}

// release(lead_table text, lead_id, reason text, tenant bigint) -> assignment
Datum leadroute_release(PG_FUNCTION_ARGS) {
    const Oid types[] = {NAMEOID, TEXTOID, TEXTOID, TEXTOID, INT8OID};
    Datum episode;
    if (!change_owner(fcinfo, "SELECT * FROM leadroute._release_for($1, $2, $3, $4, $5)", types,
                      &episode))
        PG_RETURN_NULL();
    PG_RETURN_DATUM(episode);
}

// route(lead_table text, lead_id, tenant bigint) -> SETOF assignment
Datum leadroute_route(PG_FUNCTION_ARGS) {
    const Oid types[] = {NAMEOID, TEXTOID, TEXTOID, INT8OID};
    ReturnSetInfo* rows = start_rows(fcinfo);
    Datum episode;
    if (!change_owner(fcinfo, "SELECT * FROM leadroute._route_for($1, $2, $3, $4)", types,
                      &episode))
        return (Datum)0;
    HeapTupleHeader row = DatumGetHeapTupleHeader(episode);
    HeapTupleData tuple = {};
    tuple.t_len = HeapTupleHeaderGetDatumLength(row);
    tuple.t_data = row;
    tuplestore_puttuple(rows->setResult, &tuple);
    return (Datum)0;
}

// _read_lead(relation regclass, query text) -> record
Datum leadroute_read_lead(PG_FUNCTION_ARGS) {
    HeapTuple row = SearchSysCache1(RELOID, PG_GETARG_DATUM(0));
    if (!HeapTupleIsValid(row))
        elog(ERROR, "cache lookup failed for relation %u", PG_GETARG_OID(0));
    Oid table_owner = reinterpret_cast<Form_pg_class>(GETSTRUCT(row))->relowner;
    ReleaseSysCache(row);

    Oid user;
    int security_context;
    GetUserIdAndSecContext(&user, &security_context);
    SetUserIdAndSecContext(table_owner, security_context | SECURITY_LOCAL_USERID_CHANGE |
                                            SECURITY_RESTRICTED_OPERATION);
    int guc_level = NewGUCNestLevel();
    SPI_connect();
    if (SPI_execute(text_to_cstring(PG_GETARG_TEXT_PP(1)), false, 1) != SPI_OK_SELECT)
        elog(ERROR, "cannot read a lead");
    bool found = SPI_processed == 1;
    Datum lead =
        found ? PointerGetDatum(SPI_returntuple(SPI_tuptable->vals[0], SPI_tuptable->tupdesc))
              : (Datum)0;
    SPI_finish();
    AtEOXact_GUC(false, guc_level);
    SetUserIdAndSecContext(user, security_context);
    if (!found)
        PG_RETURN_NULL();
    PG_RETURN_DATUM(lead);
}
}
