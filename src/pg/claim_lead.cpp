// Locking and updating leads that are claimed; see claim_lead.h.
//
// Planning alone evaluates what a table's owner has put into its constraints and indexes, so the
// plans are made with his rights, too. His search_path is that of a session of his that begins when
// this one meets the table.
#include "claim_lead.h"
#include "lead_row.h"
#include "owner_told.h"
#include "transaction.h"

extern "C" {
#include "utils/uuid.h"
}

enum Statement { LOCK_WAIT, LOCK_SKIP, UPDATE_OWNER, READ_ROW };

static ClaimTable* tables;
static ClaimTable* retired; // may be in use by this transaction

static void relation_changed(Datum, Oid relation) {
    for (ClaimTable* table = tables; table != NULL; table = table->next)
        if (!OidIsValid(relation) || table->relation == relation)
            table->outdated = table->direct.outdated = true;
}

static uint64 attachments_now(void) {
    return shared_ready() ? pg_atomic_read_u64(&shared->attachments) : 0;
}

static bool is_current(const ClaimTable* table) {
    return !table->outdated && table->attachments == attachments_now() &&
           table->serial == config_serial();
}

static void free_table(ClaimTable* table) {
    for (SPIPlanPtr plan : table->plan)
        if (plan != NULL)
            SPI_freeplan(plan);
    MemoryContextDelete(table->context);
}

// A trigger of the table may have changed it while one of its plans runs: that is kept until the
// transaction has ended.
static void retire(ClaimTable** link) {
    ClaimTable* table = *link;
    *link = table->next;
    table->next = retired;
    table->retired = local_transaction();
    retired = table;
}

static void free_retired(void) {
    for (ClaimTable** link = &retired; *link != NULL;) {
        ClaimTable* table = *link;
        if (table->retired == local_transaction()) {
            link = &table->next;
            continue;
        }
        *link = table->next;
        free_table(table);
    }
}

static char* field(int column) {
    return SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column);
}

static Oid column_type(Oid relation, const char* column) {
    Oid type = getBaseType(get_atttype(relation, get_attnum(relation, column)));
    return type == VARCHAROID ? TEXTOID : type;
}

static void write_statements(ClaimTable* table, const char* key, const char* owner,
                             const char* tenant) {
    const char* relation = quote_qualified_identifier(
        get_namespace_name(get_rel_namespace(table->relation)), get_rel_name(table->relation));
    const char* which = psprintf("l.%s OPERATOR(pg_catalog.=) $1", quote_identifier(key));
    if (tenant != NULL)
        which = psprintf("%s AND l.%s OPERATOR(pg_catalog.=) $2", which, quote_identifier(tenant));
    const char* column = quote_identifier(owner);
    const char* lock = psprintf("SELECT l.%s::pg_catalog.text FROM %s l WHERE %s FOR NO KEY UPDATE",
                                column, relation, which);
    table->statement[READ_ROW] = MemoryContextStrdup(
        table->context, psprintf("SELECT l FROM %s l WHERE %s", relation, which));
    table->statement[LOCK_WAIT] = MemoryContextStrdup(table->context, lock);
    table->statement[LOCK_SKIP] =
        MemoryContextStrdup(table->context, psprintf("%s SKIP LOCKED", lock));
    table->statement[UPDATE_OWNER] = MemoryContextStrdup(
        table->context, psprintf("UPDATE %s AS l SET %s = $3 WHERE %s RETURNING l.%s", relation,
                                 column, which, column));
}

// Reads the attachment and finds its table. Within SPI, as leadroute's owner.
static void describe(ClaimTable* table) {
    Oid types[] = {INT4OID};
    Datum values[] = {Int32GetDatum(table->id)};
    if (SPI_execute_with_args(
            "SELECT t.name, c.oid, t.key_column, t.owner_column, t.tenant_column, c.relowner,"
            "       leadroute._search_path_of(c.relowner),"
            "       (SELECT string_agg(DISTINCT d.connamespace::regnamespace || '.' ||"
            "                          quote_ident(d.conname), ', ')"
            "          FROM pg_trigger g JOIN pg_constraint d ON d.oid = g.tgconstraint"
            "         WHERE g.tgrelid = c.oid AND g.tginitdeferred), t.sla"
            "  FROM leadroute.lead_table t, pg_class c"
            " WHERE t.id = $1 AND c.oid = leadroute._lead_relation(t.id)",
            1, types, values, NULL, true, 1) != SPI_OK_SELECT)
        elog(ERROR, "cannot read leadroute.lead_table");
    if (SPI_processed == 0)
        ereport(ERROR,
                (errcode(ERRCODE_LR_NOT_ATTACHED), errmsg("attachment %d has no table", table->id),
                 errdetail("No table has a trigger of leadroute that names it."),
                 errhint("Attach the table with leadroute.attach().")));
    table->name = MemoryContextStrdup(table->context, field(1));
    table->sla = field(9) == NULL ? NULL : MemoryContextStrdup(table->context, field(9));
    table->relation = pg_strtoint32(field(2));
    table->key_type = column_type(table->relation, field(3));
    table->owner_type = column_type(table->relation, field(4));
    if (!owner_kind_of(table->owner_type, &table->owner_kind))
        ereport(ERROR, (errcode(ERRCODE_LR_TABLE_UNSUITABLE),
                        errmsg("leads of \"%s\" cannot be claimed", table->name),
                        errdetail("The owner column is not integer, bigint, text or uuid."),
                        errhint("Call leadroute.detach() and leadroute.attach() again.")));
    table->has_tenant = field(5) != NULL;
    bool isnull;
    table->rights.role =
        DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 6, &isnull));
    table->rights.search_path = MemoryContextStrdup(table->context, field(7));
    if (field(8) != NULL)
        table->deferred = MemoryContextStrdup(table->context, field(8));
    write_statements(table, field(3), field(4), field(5));
    DirectColumns columns = {
        get_attnum(table->relation, field(3)), get_attnum(table->relation, field(4)),
        field(5) == NULL ? (AttrNumber)InvalidAttrNumber : get_attnum(table->relation, field(5))};
    table->is_direct =
        table->deferred == NULL && direct_check(table->relation, &columns, &table->direct);
}

static ClaimTable* read_table(int32 id) {
    static bool registered = false;
    if (!registered) {
        CacheRegisterRelcacheCallback(relation_changed, (Datum)0);
        registered = true;
    }
    version_require();
    MemoryContext context =
        AllocSetContextCreate(CurrentMemoryContext, "leadroute claims", ALLOCSET_SMALL_SIZES);
    ClaimTable* table =
        static_cast<ClaimTable*>(MemoryContextAllocZero(context, sizeof(ClaimTable)));
    table->context = context;
    table->id = id;
    table->attachments = attachments_now();
    table->serial = config_serial();
    OwnerScope owner;
    owner_scope_begin(&owner);
    SPI_connect();
    PushActiveSnapshot(GetLatestSnapshot());
    describe(table);
    PopActiveSnapshot();
    SPI_finish();
    owner_scope_end(&owner);
    MemoryContextSetParent(context, TopMemoryContext);
    table->next = tables;
    tables = table;
    return table;
}

ClaimTable* claim_table(int32 id) {
    free_retired();
    for (ClaimTable** link = &tables; *link != NULL; link = &(*link)->next) {
        if ((*link)->id != id)
            continue;
        if (is_current(*link))
            return *link;
        retire(link);
        break;
    }
    return read_table(id);
}

Oid claim_relation(int32 id) {
    for (const ClaimTable* table = tables; table != NULL; table = table->next)
        if (table->id == id && is_current(table))
            return table->relation;
    return InvalidOid;
}

// LR002 for a name that is none's.
static int32 attachment_named(const char* name) {
    OwnerScope owner;
    owner_scope_begin(&owner);
    SPI_connect();
    PushActiveSnapshot(GetLatestSnapshot());
    Oid types[] = {TEXTOID};
    Datum values[] = {name == NULL ? (Datum)0 : CStringGetTextDatum(name)};
    if (SPI_execute_with_args("SELECT (leadroute._require_attached($1)).id", 1, types, values,
                              name == NULL ? "n" : " ", true, 1) != SPI_OK_SELECT)
        elog(ERROR, "cannot read leadroute.lead_table");
    bool isnull;
    int32 id =
        DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
    PopActiveSnapshot();
    SPI_finish();
    owner_scope_end(&owner);
    return id;
}

ClaimTable* claim_table_named(const char* name) {
    for (ClaimTable* table = tables; name != NULL && table != NULL; table = table->next)
        if (is_current(table) && strcmp(table->name, name) == 0)
            return table;
    return claim_table(attachment_named(name));
}

// --- values ---

static bool whole_key(const char* text, int64 least, int64 most, int64* number) {
    char* end;
    errno = 0;
    long long read = strtoll(text, &end, 10);
    *number = read;
    return errno == 0 && end != text && *end == '\0' && read >= least && read <= most;
}

static bool is_uuid(const char* text) {
    if (strlen(text) != 36)
        return false;
    for (int i = 0; i < 36; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        if (dash ? text[i] != '-' : !isxdigit(static_cast<unsigned char>(text[i])))
            return false;
    }
    return true;
}

bool claim_key(const ClaimTable* table, int64 tenant, const char* text, ClaimKey* key) {
    int64 number = 0;
    key->tenant = tenant;
    if (!table->has_tenant && tenant != 0)
        return false;
    switch (table->key_type) {
    case INT4OID:
        if (!whole_key(text, PG_INT32_MIN, PG_INT32_MAX, &number))
            return false;
        key->value = Int32GetDatum(static_cast<int32>(number));
        key->text = psprintf("%lld", (long long)number);
        return true;
    case INT8OID:
        if (!whole_key(text, PG_INT64_MIN, PG_INT64_MAX, &number))
            return false;
        key->value = Int64GetDatum(number);
        key->text = psprintf("%lld", (long long)number);
        return true;
    case UUIDOID:
        if (!is_uuid(text))
            return false;
        key->value = DirectFunctionCall1(uuid_in, CStringGetDatum(text));
        key->text = DatumGetCString(DirectFunctionCall1(uuid_out, key->value));
        return true;
    default:
        key->value = CStringGetTextDatum(text);
        key->text = text;
        return true;
    }
}

// --- with the rights of the table's owner ---

// Within SPI and the scope.
static int execute(ClaimTable* table, Statement statement, const ClaimKey* key,
                   const Datum* owner) {
    if (table->plan[statement] == NULL) {
        Oid types[] = {table->key_type, INT8OID, table->owner_type};
        SPIPlanPtr plan =
            SPI_prepare_cursor(table->statement[statement], statement == UPDATE_OWNER ? 3 : 2,
                               types, CURSOR_OPT_GENERIC_PLAN);
        if (plan == NULL || SPI_keepplan(plan) != 0)
            elog(ERROR, "cannot prepare \"%s\": %s", table->statement[statement],
                 SPI_result_code_string(SPI_result));
        table->plan[statement] = plan;
    }
    Datum values[] = {key->value, Int64GetDatum(key->tenant), owner == NULL ? (Datum)0 : *owner};
    return SPI_execute_plan(table->plan[statement], values, owner == NULL ? "  n" : NULL, false, 0);
}

static bool is_open(const ClaimTable* table) {
    return table->work_level != InvalidSubTransactionId &&
           table->work_transaction == local_transaction() &&
           table->work_level == GetCurrentSubTransactionId() && direct_allowed(&table->direct);
}

void leads_open(ClaimTable* table) {
    table->work_level = InvalidSubTransactionId;
    if (!table->is_direct || !direct_open(&table->direct, &table->work))
        return;
    table->work_transaction = local_transaction();
    table->work_level = GetCurrentSubTransactionId();
}

void leads_close(ClaimTable* table) {
    if (table->work_level != InvalidSubTransactionId)
        direct_close(&table->work);
    table->work_level = InvalidSubTransactionId;
}

ClaimTable* leads_open_sure(int32 id) {
    ClaimTable* table = tables;
    while (table != NULL && table->id != id)
        table = table->next;
    if (table == NULL || !is_current(table) || !table->direct.is_sure)
        return NULL;
    // nobody else can change the table after that
    leads_open(table);
    return is_open(table) ? table : NULL;
}

// The table, as it is open already, or for one lead. NULL: it takes a statement.
static DirectWork* work_begin(ClaimTable* table, DirectWork* own) {
    if (!table->is_direct)
        return NULL;
    if (is_open(table))
        return &table->work;
    return direct_open(&table->direct, own) ? own : NULL;
}

static LeadLock lock_directly(ClaimTable* table, DirectWork* work, const ClaimKey* key, bool skip,
                              char** was) {
    bool found = direct_lock(&table->direct, work, key->value, key->tenant, skip, was);
    if (found)
        table->direct.locked = work->row->tts_tid;
    return found ? LeadLock::locked : LeadLock::skipped;
}

LeadLock lead_lock(ClaimTable* table, const ClaimKey* key, bool skip, char** was) {
    DirectWork own;
    ItemPointerSetInvalid(&table->direct.locked);
    DirectWork* work = work_begin(table, &own);
    if (work != NULL) {
        LeadLock lock = lock_directly(table, work, key, skip, was);
        if (work == &own)
            direct_close(work);
        return lock;
    }
    MemoryContext caller = CurrentMemoryContext;
    LeadScope scope;
    lead_scope_begin(&table->rights, &scope);
    SPI_connect();
    int result = execute(table, skip ? LOCK_SKIP : LOCK_WAIT, key, NULL);
    if (result != SPI_OK_SELECT)
        elog(ERROR, "cannot lock a lead: %s", SPI_result_code_string(result));
    bool found = SPI_processed == 1;
    *was = NULL;
    if (found) {
        char* owner = field(1);
        if (owner != NULL)
            *was = MemoryContextStrdup(caller, owner);
    }
    SPI_finish();
    lead_scope_end(&scope);
    return found ? LeadLock::locked : LeadLock::skipped;
}

bool lead_is_direct(const ClaimTable* table) {
    return table->is_direct && direct_allowed(&table->direct);
}

TupleTableSlot* lead_row(ClaimTable* table, const ClaimKey* key, Relation relation, bool* made) {
    *made = !is_open(table) || !ItemPointerIsValid(&table->direct.locked);
    if (!*made)
        return table->work.row;
    MemoryContext caller = CurrentMemoryContext;
    LeadScope scope;
    lead_scope_begin(&table->rights, &scope);
    SPI_connect();
    int result = execute(table, READ_ROW, key, NULL);
    if (result != SPI_OK_SELECT)
        elog(ERROR, "cannot read a lead: %s", SPI_result_code_string(result));
    HeapTupleHeader row = NULL;
    if (SPI_processed == 1) {
        bool isnull;
        Datum value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
        MemoryContext spi = MemoryContextSwitchTo(caller);
        row = DatumGetHeapTupleHeaderCopy(value);
        MemoryContextSwitchTo(spi);
    }
    SPI_finish();
    lead_scope_end(&scope);
    return row == NULL ? NULL : lead_row_slot(relation, row);
}

static char* owner_text(const ClaimTable* table, const Datum* owner) {
    if (owner == NULL)
        return NULL;
    Oid output;
    bool variable;
    getTypeOutputInfo(table->owner_type, &output, &variable);
    return OidOutputFunctionCall(output, *owner);
}

// *stands: no trigger has changed the owner again.
static int update_told(ClaimTable* table, const ClaimKey* key, const Datum* owner, const char* text,
                       bool* stands) {
    OwnerTold told = {table->id, key->tenant, key->text, text, NULL};
    volatile int result = 0;
    owner_told_begin(&told);
    PG_TRY();
    { result = execute(table, UPDATE_OWNER, key, owner); }
    PG_FINALLY();
    { owner_told_end(&told); }
    PG_END_TRY();
    *stands = told.key != NULL;
    return result;
}

// No trigger may be left for the end, when the rights would be the caller's.
static void set_constraints(const ClaimTable* table, const char* when) {
    if (table->deferred == NULL)
        return;
    SPI_connect();
    if (SPI_execute(psprintf("SET CONSTRAINTS %s %s", table->deferred, when), false, 0) !=
        SPI_OK_UTILITY)
        elog(ERROR, "cannot set the constraints of \"%s\"", table->name);
    SPI_finish();
}

static bool update_directly(ClaimTable* table, const Datum* owner) {
    ItemPointerData row = table->direct.locked;
    ItemPointerSetInvalid(&table->direct.locked);
    if (!ItemPointerIsValid(&row))
        return false;
    DirectWork own;
    DirectWork* work = work_begin(table, &own);
    bool done = work != NULL && direct_update(&table->direct, work, &table->rights, &row, owner);
    if (work == &own)
        direct_close(work);
    return done;
}

static bool same_text(const char* a, const char* b) {
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

bool lead_update(ClaimTable* table, const ClaimKey* key, const Datum* owner, const char* was) {
    if (update_directly(table, owner))
        return true;
    const char* wanted = owner_text(table, owner);
    set_constraints(table, "IMMEDIATE");
    LeadScope scope;
    lead_scope_begin(&table->rights, &scope);
    SPI_connect();
    bool stands;
    int result = update_told(table, key, owner, wanted, &stands);
    if (result != SPI_OK_UPDATE_RETURNING)
        elog(ERROR, "cannot update a lead: %s", SPI_result_code_string(result));
    const char* now = SPI_processed == 1 ? field(1) : was;
    bool given = same_text(now, wanted);
    if (!given && same_text(now, was))
        ereport(ERROR,
                (errcode(ERRCODE_LR_NOT_ALLOWED),
                 errmsg("the owner of lead %s did not change", key->text),
                 errdetail("A trigger, rule or policy of the lead table has left the row as it "
                           "was."),
                 errhint("Nothing is recorded. Let the owner column be updated.")));
    SPI_finish();
    lead_scope_end(&scope);
    set_constraints(table, "DEFERRED");
    return given && stands;
}
