// Triggers of leadroute.territory_entry. Tens of thousands of entries come in one COPY, so that a
// row costs no SQL: what its names refer to is looked up once for many rows, and the history has a
// row for each statement and territory, unless the statement wrote few entries.
#include "backlog.h"
#include "leadroute.h"
#include "territory.h"
#include "trigger_call.h"

static Datum column(const TriggerData* data, HeapTuple row, const char* name, bool* isnull) {
    TupleDesc columns = RelationGetDescr(data->tg_relation);
    return heap_getattr(row, SPI_fnumber(columns, name), columns, isnull);
}

static const char* text_column(const TriggerData* data, HeapTuple row, const char* name) {
    bool isnull;
    Datum value = column(data, row, name, &isnull);
    return isnull ? NULL : TextDatumGetCString(value);
}

[[noreturn]] static void refuse(int sqlstate, const char* message, const char* detail,
                                const char* hint) {
    ereport(ERROR, (errcode(sqlstate), errmsg_internal("%s", message),
                    errdetail_internal("%s", detail), errhint("%s", hint)));
}

// What was found to exist lately, in this transaction's view.
constexpr int kFound = 64;
struct Found {
    char name[256];
    int64 tenant;
    char kind;
};
static Found found[kFound];
static int next_found;
static LocalTransactionId found_in;
static CommandId found_by;

// Forgotten with each command: within one, what is referred to does not change.
static bool known(char kind, int64 tenant, const char* name) {
    if (found_in != local_transaction() || found_by != GetCurrentCommandId(false)) {
        memset(static_cast<void*>(found), 0, sizeof(found));
        found_in = local_transaction();
        found_by = GetCurrentCommandId(false);
    }
    for (const Found& f : found)
        if (f.kind == kind && f.tenant == tenant && strcmp(f.name, name) == 0)
            return true;
    return false;
}

static void remember(char kind, int64 tenant, const char* name) {
    if (strlen(name) >= sizeof(found[0].name))
        return;
    Found* f = &found[next_found];
    next_found = (next_found + 1) % kFound;
    strlcpy(f->name, name, sizeof(f->name));
    f->tenant = tenant;
    f->kind = kind;
}

static SPIPlanPtr look(char kind) {
    static SPIPlanPtr plans[3];
    static const char* const statements[] = {
        "SELECT FROM leadroute.territory t WHERE t.tenant OPERATOR(pg_catalog.=) $1"
        " AND t.name OPERATOR(pg_catalog.=) $2",
        "SELECT FROM leadroute.pool p WHERE p.tenant OPERATOR(pg_catalog.=) $1"
        " AND p.name OPERATOR(pg_catalog.=) $2",
        "SELECT FROM leadroute.rep r WHERE r.tenant OPERATOR(pg_catalog.=) $1"
        " AND r.id OPERATOR(pg_catalog.=) $2::pg_catalog.int8"};
    int i = kind == 't' ? 0 : kind == 'p' ? 1 : 2;
    if (plans[i] == NULL) {
        Oid types[] = {INT8OID, TEXTOID};
        // a plan made while the tables are empty is none for those that are full
        SPIPlanPtr plan =
            SPI_prepare_cursor(statements[i], lengthof(types), types, CURSOR_OPT_CUSTOM_PLAN);
        if (plan == NULL || SPI_keepplan(plan) != 0)
            elog(ERROR, "cannot prepare the check of an entry");
        plans[i] = plan;
    }
    return plans[i];
}

static bool exists(char kind, int64 tenant, const char* name) {
    if (known(kind, tenant, name))
        return true;
    Datum values[] = {Int64GetDatum(tenant), CStringGetTextDatum(name)};
    // with the rights of who writes, so that nobody learns what another tenant has
    SPI_connect();
    PushActiveSnapshot(GetLatestSnapshot());
    if (SPI_execute_plan(look(kind), values, NULL, true, 1) != SPI_OK_SELECT)
        elog(ERROR, "cannot read what an entry refers to");
    bool any = SPI_processed > 0;
    PopActiveSnapshot();
    SPI_finish();
    if (any)
        remember(kind, tenant, name);
    return any;
}

struct Entry {
    int64 tenant;
    const char* territory;
    const char* key;
    const char* pool;
    const char* rep; // as text
};

static void check_shape(const Entry* e) {
    if (e->territory == NULL)
        refuse(ERRCODE_LR_CONFIGURATION, "an entry names no territory",
               "A row of territory_entry says to whom a key of a territory belongs.",
               "Give the territory by name.");
    if (e->key == NULL || *e->key == '\0')
        refuse(ERRCODE_LR_CONFIGURATION,
               psprintf("an entry of territory \"%s\" has no key", e->territory),
               "It is what a lead's key equals, or begins with.",
               "Give a key; for all other leads write a rule after the territory's.");
    if ((e->pool == NULL) == (e->rep == NULL))
        refuse(ERRCODE_LR_CONFIGURATION,
               psprintf("entry \"%s\" of territory \"%s\" has %s", e->key, e->territory,
                        e->pool == NULL ? "no target" : "two targets"),
               "It says who receives the leads with this key.", "Give either pool or rep.");
}

static void require(const Entry* e, char kind, const char* what, const char* name) {
    if (name == NULL || exists(kind, e->tenant, name))
        return;
    const char* where = e->tenant == 0 ? "" : psprintf(", in tenant " INT64_FORMAT, e->tenant);
    refuse(ERRCODE_LR_NO_SUCH_OBJECT, psprintf("no %s \"%s\"", what, name),
           psprintf("Entry \"%s\" of territory \"%s\" names it%s.", e->key, e->territory, where),
           psprintf("Insert it into leadroute.%s first, or correct the name.", what));
}

// --- history ---

// Rows of a statement, before and after it, that are logged one by one.
constexpr int64 kLoggedEach = 200;

static const char kInsert[] = "INSERT INTO leadroute.config_change"
                              " (tenant, changed_by, login, table_name, key, version, old, new)";

static bool are_few(const char* before, const char* after) {
    const char* sql =
        psprintf("SELECT (SELECT count(*) FROM %s b) + (SELECT count(*) FROM %s a)", before, after);
    if (SPI_execute(sql, true, 0) != SPI_OK_SELECT)
        elog(ERROR, "cannot count entries");
    bool isnull;
    return DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull)) <=
           kLoggedEach;
}

static char* log_each(const char* before, const char* after) {
    return psprintf("%s SELECT COALESCE(b.tenant, a.tenant), $1, $2, 'territory_entry',"
                    "  jsonb_build_object('territory', COALESCE(b.territory, a.territory),"
                    "   'key', COALESCE(b.key, a.key)), 0, to_jsonb(b), to_jsonb(a)"
                    " FROM %s b FULL JOIN %s a"
                    "  ON b.tenant = a.tenant AND b.territory = a.territory AND b.key = a.key"
                    " WHERE to_jsonb(b) IS DISTINCT FROM to_jsonb(a) ORDER BY 1, 5",
                    kInsert, before, after);
}

static char* log_numbers(const char* before, const char* after) {
    return psprintf("%s SELECT r.tenant, $1, $2, 'territory_entry',"
                    "  jsonb_build_object('territory', r.territory), 0,"
                    "  CASE WHEN sum(r.b) > 0 THEN jsonb_build_object('entries', sum(r.b)) END,"
                    "  CASE WHEN sum(r.a) > 0 THEN jsonb_build_object('entries', sum(r.a)) END"
                    " FROM (SELECT tenant, territory, count(*) AS b, 0 AS a FROM %s x GROUP BY 1, 2"
                    "  UNION ALL SELECT tenant, territory, 0, count(*) FROM %s x GROUP BY 1, 2) r"
                    " GROUP BY r.tenant, r.territory ORDER BY r.tenant, r.territory",
                    kInsert, before, after);
}

// The rows before and after, as relations.
static void log_entries(const char* before, const char* after) {
    NameData changed_by, login;
    namestrcpy(&changed_by, GetUserNameFromId(GetUserId(), false));
    namestrcpy(&login, GetUserNameFromId(GetSessionUserId(), true));
    Oid types[] = {NAMEOID, NAMEOID};
    Datum values[] = {NameGetDatum(&changed_by), NameGetDatum(&login)};
    OwnerScope owner;
    owner_scope_begin(&owner);
    const char* sql = are_few(before, after) ? log_each(before, after) : log_numbers(before, after);
    if (SPI_execute_with_args(sql, lengthof(types), types, values, NULL, false, 0) != SPI_OK_INSERT)
        elog(ERROR, "cannot write leadroute.config_change");
    owner_scope_end(&owner);
}

extern "C" {
PG_FUNCTION_INFO_V1(leadroute_check_entry);
PG_FUNCTION_INFO_V1(leadroute_entries_changed);
PG_FUNCTION_INFO_V1(leadroute_log_entries);

// BEFORE INSERT OR UPDATE ROW on territory_entry.
Datum leadroute_check_entry(PG_FUNCTION_ARGS) {
    TriggerData* data = trigger_data(fcinfo);
    HeapTuple row =
        TRIGGER_FIRED_BY_UPDATE(data->tg_event) ? data->tg_newtuple : data->tg_trigtuple;
    bool isnull;
    Entry entry = {};
    entry.tenant = DatumGetInt64(column(data, row, "tenant", &isnull));
    entry.territory = text_column(data, row, "territory");
    entry.key = text_column(data, row, "key");
    entry.pool = text_column(data, row, "pool");
    Datum rep = column(data, row, "rep", &isnull);
    entry.rep = isnull ? NULL : psprintf(INT64_FORMAT, DatumGetInt64(rep));
    check_shape(&entry);
    require(&entry, 't', "territory", entry.territory);
    require(&entry, 'p', "pool", entry.pool);
    require(&entry, 'r', "rep", entry.rep);
    return PointerGetDatum(row);
}

// AFTER ROW and AFTER TRUNCATE on territory_entry: this session looks keys up anew from here on,
// the others after this transaction has committed. One message to them will do for each
// subtransaction, which takes its own along if it is rolled back; the server acts on each at the
// next command.
Datum leadroute_entries_changed(PG_FUNCTION_ARGS) {
    static LocalTransactionId told_in;
    static SubTransactionId told_by;
    const TriggerData* data = trigger_data(fcinfo);
    territory_forget();
    bool truncated = TRIGGER_FIRED_BY_TRUNCATE(data->tg_event), isnull;
    backlog_entries_edited(
        truncated ? 0 : DatumGetInt64(column(data, data->tg_trigtuple, "tenant", &isnull)),
        truncated);
    if (told_in != local_transaction() || told_by != GetCurrentSubTransactionId()) {
        CacheInvalidateRelcache(data->tg_relation);
        told_in = local_transaction();
        told_by = GetCurrentSubTransactionId();
    }
    PG_RETURN_POINTER(NULL);
}

// AFTER STATEMENT on territory_entry, with the transition tables old_rows and new_rows as far as
// the event has them; BEFORE TRUNCATE.
Datum leadroute_log_entries(PG_FUNCTION_ARGS) {
    TriggerData* data = trigger_data(fcinfo);
    const char* none = "(SELECT * FROM leadroute.territory_entry WHERE false)";
    SPI_connect();
    if (TRIGGER_FIRED_BY_TRUNCATE(data->tg_event)) {
        log_entries("leadroute.territory_entry", none);
    } else {
        if (SPI_register_trigger_data(data) != SPI_OK_TD_REGISTER)
            elog(ERROR, "cannot see the changed entries");
        log_entries(TRIGGER_FIRED_BY_INSERT(data->tg_event) ? none : "old_rows",
                    TRIGGER_FIRED_BY_DELETE(data->tg_event) ? none : "new_rows");
    }
    SPI_finish();
    PG_RETURN_POINTER(NULL);
}
}
