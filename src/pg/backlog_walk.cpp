// What the walk through the backlog (sql/backlog.sql) asks of the library, and sweep().
#include "backlog.h"
#include "events.h"
#include "pick.h"
#include "placement.h"
#include "sla_sweep.h"

extern "C" {
#include "catalog/pg_class.h"
#include "nodes/parsenodes.h"
#include "utils/fmgrprotos.h"
}

constexpr int kBatch = 20; // leads in one transaction

static bool same_text(const char* a, const char* b) {
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static Oid owner_of(Oid relation) {
    HeapTuple row = SearchSysCache1(RELOID, ObjectIdGetDatum(relation));
    if (!HeapTupleIsValid(row))
        elog(ERROR, "cache lookup failed for relation %u", relation);
    Oid owner = reinterpret_cast<Form_pg_class>(GETSTRUCT(row))->relowner;
    ReleaseSysCache(row);
    return owner;
}

// As for leadroute's own triggers: a trigger of the table may name another owner, but not keep the
// one that was.
static void require_change(const char* was, const char* wanted) {
    char* owner =
        SPI_processed == 1 ? SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1) : NULL;
    if (SPI_processed == 1 && (same_text(owner, wanted) || !same_text(owner, was)))
        return;
    ereport(ERROR,
            (errcode(ERRCODE_LR_NOT_ALLOWED), errmsg("the owner of the lead did not change"),
             errdetail("A trigger, rule or policy of the lead table has left the row as it was."),
             errhint("Let the owner column be updated.")));
}

static char* text_argument(FunctionCallInfo fcinfo, int n) {
    return PG_ARGISNULL(n) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(n));
}

static TenantSlot* slot_of(int64 tenant) {
    TenantKey key = {MyDatabaseId, placement(InvalidOid, tenant), tenant};
    return slot_find(&key);
}

// The state of a walk, and one step of it, as leadroute's owner. NULL: nothing is left.
static char* walk(const char* query, int count, const Oid* types, const Datum* values,
                  const char* nulls, int* given) {
    OwnerScope owner;
    owner_scope_begin(&owner);
    if (SPI_execute_with_args(query, count, const_cast<Oid*>(types), const_cast<Datum*>(values),
                              nulls, false, 1) != SPI_OK_SELECT ||
        SPI_processed != 1)
        elog(ERROR, "cannot walk through the backlog");
    owner_scope_end(&owner);
    bool isnull;
    if (given != NULL)
        *given +=
            DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));
    char* work = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
    SPI_freetuptable(SPI_tuptable);
    return work;
}

char* backlog_start(bool wanted) {
    Oid types[] = {BOOLOID};
    Datum values[] = {BoolGetDatum(wanted)};
    return walk("SELECT leadroute._backlog_start(NULL, $1)::pg_catalog.text", 1, types, values,
                NULL, NULL);
}

char* backlog_step(const char* work, int most, int* given) {
    Oid types[] = {TEXTOID, INT4OID};
    Datum values[] = {CStringGetTextDatum(work), Int32GetDatum(most)};
    return walk("SELECT s.next_work::pg_catalog.text, s.given"
                " FROM leadroute._backlog_step($1::pg_catalog.jsonb, $2) s",
                2, types, values, NULL, given);
}

static void require_no_transaction(FunctionCallInfo fcinfo) {
    const CallContext* call = reinterpret_cast<const CallContext*>(fcinfo->context);
    if (call != NULL && IsA(call, CallContext) && !call->atomic)
        return;
    ereport(ERROR, (errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
                    errmsg("sweep() cannot run inside a transaction block"),
                    errdetail("It commits after each batch."),
                    errhint("CALL leadroute.sweep() as a statement of its own.")));
}

static TimestampTz deadline(FunctionCallInfo fcinfo) {
    if (PG_ARGISNULL(1))
        return DT_NOEND;
    return DatumGetTimestampTz(DirectFunctionCall2(
        timestamptz_pl_interval, TimestampTzGetDatum(GetCurrentTimestamp()), PG_GETARG_DATUM(1)));
}

// Weighs pools with the method performance anew that are due, one by one.
static void weigh(NameData* caller, TimestampTz until) {
    char* after = NULL;
    while (GetCurrentTimestamp() < until) {
        Oid types[] = {NAMEOID, TEXTOID};
        Datum values[] = {NameGetDatum(caller),
                          after == NULL ? (Datum)0 : CStringGetTextDatum(after)};
        char nulls[] = {' ', after == NULL ? 'n' : ' ', '\0'};
        char* before = after;
        after = walk("SELECT leadroute._refresh_due(leadroute._sweep_tenants($1),"
                     " $2::pg_catalog.jsonb)::pg_catalog.text",
                     2, types, values, nulls, NULL);
        SPI_commit();
        CHECK_FOR_INTERRUPTS();
        if (before != NULL)
            pfree(before);
        if (after == NULL)
            return;
    }
}

static void sweep_ended(const char* begun) {
    Oid types[] = {TEXTOID};
    Datum values[] = {CStringGetTextDatum(begun)};
    (void)walk("SELECT leadroute._sweep_ends($1::pg_catalog.timestamptz)::pg_catalog.text", 1,
               types, values, NULL, NULL);
    SPI_commit();
}

void sweep_watch(void) {
    (void)walk("SELECT leadroute._sweep_watch()::pg_catalog.text", 0, NULL, NULL, NULL, NULL);
}

// Walks until nothing is left, or enough is done. True: all was walked.
static bool walk_on(int64 most, TimestampTz until) {
    NameData caller;
    namestrcpy(&caller, GetUserNameFromId(GetUserId(), false));
    Oid types[] = {NAMEOID};
    Datum values[] = {NameGetDatum(&caller)};
    char* begun = walk("SELECT leadroute._sweep_begins(leadroute._sweep_tenants($1))"
                       "::pg_catalog.text",
                       1, types, values, NULL, NULL);
    SPI_commit();
    weigh(&caller, until);
    most -= sla_sweep(&caller, most, until);
    char* work = walk("SELECT leadroute._backlog_start(leadroute._sweep_tenants($1), false)"
                      "::pg_catalog.text",
                      1, types, values, NULL, NULL);
    int given = 0;
    while (work != NULL && given < most && GetCurrentTimestamp() < until) {
        char* before = work;
        work = backlog_step(before, (int)Min(kBatch, most - given), &given);
        pfree(before);
        SPI_commit();
        CHECK_FOR_INTERRUPTS();
    }
    if (work == NULL && begun != NULL)
        sweep_ended(begun);
    return work == NULL;
}

void backlog_unfinished(EventSlot* slot) {
    if (slot == NULL)
        return;
    pg_atomic_write_u32(&slot->backlog_all, 1);
    pg_atomic_write_u32(&slot->backlog, BACKLOG_RULES);
}

// What is not walked to the end is wanted as before.
static void sweep(int64 most, TimestampTz until) {
    EventSlot* volatile slot = event_slot_pin();
    volatile bool finished = false;
    PG_TRY();
    { finished = walk_on(most, until); }
    PG_FINALLY();
    {
        if (!finished)
            backlog_unfinished(slot);
        if (slot != NULL)
            event_slot_unpin(slot);
    }
    PG_END_TRY();
}

extern "C" {
PG_FUNCTION_INFO_V1(leadroute_takers);
PG_FUNCTION_INFO_V1(leadroute_update_lead);
PG_FUNCTION_INFO_V1(leadroute_backlog_level);
PG_FUNCTION_INFO_V1(leadroute_backlog_level_of_all);
PG_FUNCTION_INFO_V1(leadroute_backlog_wanted);
PG_FUNCTION_INFO_V1(leadroute_backlog_walking);
PG_FUNCTION_INFO_V1(leadroute_offers_forget);
PG_FUNCTION_INFO_V1(leadroute_offers_note);
PG_FUNCTION_INFO_V1(leadroute_sweep);

// _takers(tenant, pool, rep, overflow_pool) -> bool
Datum leadroute_takers(PG_FUNCTION_ARGS) {
    shared_require();
    int64 tenant = PG_GETARG_INT64(0);
    TenantKey key = {MyDatabaseId, placement(InvalidOid, tenant), tenant};
    PickRequest request = {};
    request.key = &key;
    request.pool = PG_ARGISNULL(1) ? 0 : PG_GETARG_INT32(1);
    request.rep = PG_ARGISNULL(2) ? 0 : PG_GETARG_INT64(2);
    request.overflow_pool = PG_ARGISNULL(3) ? 0 : PG_GETARG_INT32(3);
    request.now = GetCurrentTimestamp();
    static core::Explanation explanation;
    explanation.tried_count = 0;
    Pick picked = {};
    if (request.pool != 0 || request.rep != 0 || request.overflow_pool != 0)
        pick_rehearse(&request, &picked, &explanation, NULL, NULL);
    // ... or somebody to offer it to, or another pool where it waits to be claimed
    PG_RETURN_BOOL(picked.found || picked.offered_count > 0 ||
                   (picked.waits_in != 0 && picked.waits_in != request.pool));
}

// _update_lead(relation, statement, was, wanted, search_path)
Datum leadroute_update_lead(PG_FUNCTION_ARGS) {
    Oid user;
    int security_context;
    GetUserIdAndSecContext(&user, &security_context);
    SetUserIdAndSecContext(owner_of(PG_GETARG_OID(0)), security_context |
                                                           SECURITY_LOCAL_USERID_CHANGE |
                                                           SECURITY_RESTRICTED_OPERATION);
    int guc_level = NewGUCNestLevel();
    (void)set_config_option("search_path", text_argument(fcinfo, 4), PGC_USERSET, PGC_S_SESSION,
                            GUC_ACTION_SAVE, true, 0, false);
    SPI_connect();
    int result = SPI_execute(text_to_cstring(PG_GETARG_TEXT_PP(1)), false, 0);
    if (result != SPI_OK_UPDATE_RETURNING)
        elog(ERROR, "cannot update a lead: %s", SPI_result_code_string(result));
    require_change(text_argument(fcinfo, 2), text_argument(fcinfo, 3));
    SPI_finish();
    AtEOXact_GUC(false, guc_level);
    SetUserIdAndSecContext(user, security_context);
    PG_RETURN_VOID();
}

// _backlog_level(tenant) -> integer
Datum leadroute_backlog_level(PG_FUNCTION_ARGS) {
    shared_require();
    TenantSlot* slot = slot_of(PG_GETARG_INT64(0));
    PG_RETURN_INT32(slot == NULL ? 0 : (int32)pg_atomic_exchange_u32(&slot->backlog, BACKLOG_NONE));
}

// _backlog_level_of_all(OUT level integer, OUT everywhere boolean)
Datum leadroute_backlog_level_of_all(PG_FUNCTION_ARGS) {
    shared_require();
    TupleDesc descriptor;
    if (get_call_result_type(fcinfo, NULL, &descriptor) != TYPEFUNC_COMPOSITE)
        elog(ERROR, "return type must be a row type");
    // a database without a place: nobody could say anything
    uint32 level = BACKLOG_RULES;
    uint32 everywhere = 1;
    EventSlot* slot = event_slot_pin();
    if (slot != NULL) {
        level = pg_atomic_exchange_u32(&slot->backlog, BACKLOG_NONE);
        everywhere = pg_atomic_exchange_u32(&slot->backlog_all, 0);
        event_slot_unpin(slot);
    }
    Datum values[] = {Int32GetDatum((int32)level), BoolGetDatum(everywhere != 0)};
    bool nulls[] = {false, false};
    PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(descriptor), values, nulls)));
}

// _backlog_wanted() -> SETOF bigint
Datum leadroute_backlog_wanted(PG_FUNCTION_ARGS) {
    shared_require();
    ReturnSetInfo* rows = start_values(fcinfo);
    for (int i = 0; i < shared->slot_count; i++) {
        TenantSlot* slot = shared_slot(i);
        if (!slot->used || slot->key.database != MyDatabaseId ||
            pg_atomic_read_u32(&slot->backlog) == BACKLOG_NONE)
            continue;
        Datum value = Int64GetDatum(slot->key.tenant);
        bool isnull = false;
        tuplestore_putvalues(rows->setResult, rows->setDesc, &value, &isnull);
    }
    return (Datum)0;
}

// _backlog_walking()
Datum leadroute_backlog_walking(PG_FUNCTION_ARGS) {
    (void)fcinfo;
    backlog_walks();
    PG_RETURN_VOID();
}

static void set_offer_end(TimestampTz until, bool earlier) {
    shared_require();
    EventSlot* slot = event_slot_pin();
    if (slot == NULL)
        return;
    if (earlier)
        offer_ends_at(slot, until);
    else
        pg_atomic_write_u64(&slot->offer_ends, (uint64)until);
    event_slot_unpin(slot);
}

// _offers_forget()
Datum leadroute_offers_forget(PG_FUNCTION_ARGS) {
    (void)fcinfo;
    set_offer_end(DT_NOEND, false);
    PG_RETURN_VOID();
}

// _offers_note(until)
Datum leadroute_offers_note(PG_FUNCTION_ARGS) {
    set_offer_end(PG_GETARG_TIMESTAMPTZ(0), true);
    PG_RETURN_VOID();
}

// PROCEDURE sweep(max_rows integer, budget interval)
Datum leadroute_sweep(PG_FUNCTION_ARGS) {
    shared_require();
    int64 most = PG_ARGISNULL(0) ? PG_INT32_MAX : PG_GETARG_INT32(0);
    if (most < 0)
        ereport(ERROR, (errcode(ERRCODE_LR_CONFIGURATION), errmsg("max_rows cannot be negative"),
                        errdetail("It is %lld, and means the most leads that one sweep does "
                                  "something for.",
                                  (long long)most),
                        errhint("Leave it out for all that is due: CALL leadroute.sweep();")));
    require_no_transaction(fcinfo);
    if (SPI_connect_ext(SPI_OPT_NONATOMIC) != SPI_OK_CONNECT)
        elog(ERROR, "cannot connect to SPI");
    sweep(most, deadline(fcinfo));
    SPI_finish();
    PG_RETURN_VOID();
}
}
