// See sla_policy.h. Called within SPI, as leadroute's owner.
#include "sla_policy.h"
#include "lead_table.h"
#include "placement.h"
#include "sla.h"
#include "transaction.h"

struct RepManager {
    int64 rep; // hash key
    int64 manager;
};

struct PoolTold {
    int32 pool; // hash key
    int64 manager;
    bool credit_returns_cap;
};

struct SlaTenant {
    int64 tenant; // hash key
    MemoryContext context;
    uint64 generation, serial;
    LocalTransactionId checked; // in which all this was found current
    int count;
    SlaTerms* terms;
    HTAB* reps;
    HTAB* pools;
};

// --- reading ---

static const char kTerms[] =
    "SELECT s.id, s.name, s.business_time, s.reroute_to = 'pool', s.returns_turn, s.moves_manual,"
    " COALESCE(s.exclude_last, 2147483647), COALESCE(s.max_hops, 2147483647), COALESCE(p.id, 0),"
    " COALESCE(s.away_after_breaches, 0), s.away_for, s.digest_over, s.first_touch,"
    " COALESCE(s.on_breach, '')"
    " FROM leadroute.sla_policy s LEFT JOIN leadroute.pool p ON p.tenant = s.tenant"
    "  AND p.name = s.recycle_pool WHERE s.tenant = $1 ORDER BY s.id";

static const char kSteps[] =
    "SELECT s.id, t.id, COALESCE(t.after, GREATEST(s.first_touch * t.share::float8,"
    "  interval '1 microsecond')), t.action, COALESCE(p.id, 0)"
    " FROM leadroute.sla_policy s JOIN leadroute.sla_step t ON t.tenant = s.tenant"
    "  AND t.policy = s.name LEFT JOIN leadroute.pool p ON p.tenant = t.tenant AND p.name = t.pool"
    " WHERE s.tenant = $1 ORDER BY s.id, 3, t.id";

static SPITupleTable* read_rows(SPIPlanPtr* plan, const char* query, int count, const Oid* types,
                                Datum* values) {
    if (*plan == NULL) {
        SPIPlanPtr made = SPI_prepare(query, count, const_cast<Oid*>(types));
        if (made == NULL || SPI_keepplan(made) != 0)
            elog(ERROR, "cannot prepare \"%s\": %s", query, SPI_result_code_string(SPI_result));
        *plan = made;
    }
    if (SPI_execute_plan(*plan, values, NULL, false, 0) != SPI_OK_SELECT)
        elog(ERROR, "cannot execute \"%s\"", query);
    return SPI_tuptable;
}

static Datum column(SPITupleTable* rows, uint64 row, int number) {
    bool isnull;
    Datum value = SPI_getbinval(rows->vals[row], rows->tupdesc, number, &isnull);
    return isnull ? (Datum)0 : value;
}

static Interval* kept_interval(SPITupleTable* rows, uint64 row, int number, MemoryContext context) {
    Datum value = column(rows, row, number);
    Interval* kept = static_cast<Interval*>(MemoryContextAllocZero(context, sizeof(Interval)));
    if (value != 0)
        *kept = *DatumGetIntervalP(value);
    return kept;
}

static SlaAction action_named(const char* name) {
    static const char* const names[] = {"",           "remind",  "escalate",       "reroute",
                                        "shark_tank", "recycle", "notify_manager", "set_away"};
    for (int i = 0; i < (int)lengthof(names); i++)
        if (strcmp(names[i], name) == 0)
            return static_cast<SlaAction>(i);
    return SlaAction::none;
}

static void fill_terms(SPITupleTable* rows, uint64 row, MemoryContext context, SlaTerms* terms) {
    auto number = [=](int i) { return DatumGetInt32(column(rows, row, i)); };
    auto is = [=](int i) { return DatumGetBool(column(rows, row, i)); };
    *terms = {};
    terms->id = number(1);
    terms->name = MemoryContextStrdup(context, TextDatumGetCString(column(rows, row, 2)));
    terms->business_time = is(3);
    terms->to_pool = is(4);
    terms->returns_turn = is(5);
    terms->moves_manual = is(6);
    terms->exclude_last = number(7);
    terms->max_hops = number(8);
    terms->recycle_pool = number(9);
    terms->away_after = number(10);
    if (column(rows, row, 11) != 0)
        terms->away_for = kept_interval(rows, row, 11, context);
    terms->digest_over = number(12);
}

static SlaStep breach_of(SPITupleTable* rows, uint64 row, MemoryContext context) {
    Interval* touch = kept_interval(rows, row, 13, context);
    return {0, sla_microseconds(touch), touch,
            action_named(TextDatumGetCString(column(rows, row, 14))), 0};
}

// The policy's steps out of those of all, with the breach.
static void fill_steps(SPITupleTable* rows, uint64 count, const SlaStep* breach,
                       MemoryContext context, SlaTerms* terms) {
    int mine = 1;
    for (uint64 i = 0; i < count; i++)
        mine += DatumGetInt32(column(rows, i, 1)) == terms->id;
    terms->steps = static_cast<SlaStep*>(MemoryContextAlloc(context, sizeof(SlaStep) * mine));
    terms->steps[terms->step_count++] = *breach;
    for (uint64 i = 0; i < count; i++) {
        if (DatumGetInt32(column(rows, i, 1)) != terms->id)
            continue;
        Interval* after = kept_interval(rows, i, 3, context);
        terms->steps[terms->step_count++] = {DatumGetInt64(column(rows, i, 2)),
                                             sla_microseconds(after), after,
                                             action_named(TextDatumGetCString(column(rows, i, 4))),
                                             DatumGetInt32(column(rows, i, 5))};
    }
}

static void read_terms(SlaTenant* tenant) {
    static SPIPlanPtr terms_plan, steps_plan;
    const Oid types[] = {INT8OID};
    Datum values[] = {Int64GetDatum(tenant->tenant)};
    SPITupleTable* rows = read_rows(&terms_plan, kTerms, 1, types, values);
    tenant->count = (int)SPI_processed;
    SPITupleTable* steps = read_rows(&steps_plan, kSteps, 1, types, values);
    uint64 step_count = SPI_processed;
    tenant->terms = static_cast<SlaTerms*>(
        MemoryContextAlloc(tenant->context, sizeof(SlaTerms) * (tenant->count + 1)));
    for (int i = 0; i < tenant->count; i++) {
        fill_terms(rows, i, tenant->context, &tenant->terms[i]);
        SlaStep breach = breach_of(rows, i, tenant->context);
        fill_steps(steps, step_count, &breach, tenant->context, &tenant->terms[i]);
    }
    SPI_freetuptable(steps);
    SPI_freetuptable(rows);
}

static HTAB* table_of(MemoryContext context, Size key, Size entry) {
    HASHCTL control = {};
    control.keysize = key;
    control.entrysize = entry;
    control.hcxt = context;
    return hash_create("leadroute sweep", 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

void sla_known_begin(SlaKnown* known) {
    known->context =
        AllocSetContextCreate(CurrentMemoryContext, "leadroute sweep", ALLOCSET_DEFAULT_SIZES);
    known->tenants = table_of(known->context, sizeof(int64), sizeof(SlaTenant));
}

SlaTenant* sla_tenant(SlaKnown* known, int64 id) {
    bool found;
    SlaTenant* tenant =
        static_cast<SlaTenant*>(hash_search(known->tenants, &id, HASH_ENTER, &found));
    if (found && tenant->checked == local_transaction())
        return tenant;
    if (!found) {
        tenant->context = NULL;
        tenant->generation = 0;
    }
    TenantKey key = {MyDatabaseId, placement(InvalidOid, id), id};
    uint64 generation = tenant_generation(&key);
    tenant->checked = InvalidLocalTransactionId; // until all is read: what follows may fail
    if (tenant->context == NULL || tenant->generation != generation ||
        tenant->serial != config_serial()) {
        if (tenant->context != NULL)
            MemoryContextDelete(tenant->context);
        tenant->generation = 0;
        tenant->serial = config_serial();
        tenant->context =
            AllocSetContextCreate(known->context, "leadroute sweep tenant", ALLOCSET_SMALL_SIZES);
        tenant->reps = table_of(tenant->context, sizeof(int64), sizeof(RepManager));
        tenant->pools = table_of(tenant->context, sizeof(int32), sizeof(PoolTold));
        read_terms(tenant);
        tenant->generation = generation;
    }
    tenant->checked = local_transaction();
    return tenant;
}

const SlaTerms* sla_terms(SlaTenant* tenant, int32 policy) {
    for (int i = 0; i < tenant->count; i++)
        if (tenant->terms[i].id == policy)
            return &tenant->terms[i];
    return NULL;
}

// --- who is told ---

void sla_managers_want(SlaTenant* tenant, const int64* reps, int count) {
    static SPIPlanPtr plan;
    Datum* missing = static_cast<Datum*>(palloc(sizeof(Datum) * (count + 1)));
    int missing_count = 0;
    for (int i = 0; i < count; i++)
        if (hash_search(tenant->reps, &reps[i], HASH_FIND, NULL) == NULL)
            missing[missing_count++] = Int64GetDatum(reps[i]);
    if (missing_count == 0)
        return;
    const Oid types[] = {INT8OID, INT8ARRAYOID};
    Datum values[] = {
        Int64GetDatum(tenant->tenant),
        PointerGetDatum(construct_array(missing, missing_count, INT8OID, sizeof(int64),
                                        FLOAT8PASSBYVAL, TYPALIGN_DOUBLE))};
    SPITupleTable* rows = read_rows(&plan,
                                    "SELECT r.id, r.manager FROM leadroute.rep r"
                                    " WHERE r.tenant = $1 AND r.id = ANY ($2)"
                                    " AND r.manager IS NOT NULL",
                                    2, types, values);
    for (int i = 0; i < missing_count; i++) {
        int64 rep = DatumGetInt64(missing[i]);
        static_cast<RepManager*>(hash_search(tenant->reps, &rep, HASH_ENTER, NULL))->manager = 0;
    }
    for (uint64 i = 0; i < SPI_processed; i++) {
        int64 rep = DatumGetInt64(column(rows, i, 1));
        static_cast<RepManager*>(hash_search(tenant->reps, &rep, HASH_ENTER, NULL))->manager =
            DatumGetInt64(column(rows, i, 2));
    }
    SPI_freetuptable(rows);
}

int64 sla_manager_of_rep(SlaTenant* tenant, int64 rep) {
    const RepManager* entry =
        static_cast<const RepManager*>(hash_search(tenant->reps, &rep, HASH_FIND, NULL));
    if (entry != NULL)
        return entry->manager;
    sla_managers_want(tenant, &rep, 1);
    return static_cast<const RepManager*>(hash_search(tenant->reps, &rep, HASH_FIND, NULL))
        ->manager;
}

static const PoolTold* pool_told(SlaTenant* tenant, int32 pool) {
    static SPIPlanPtr plan;
    bool found;
    PoolTold* told = static_cast<PoolTold*>(hash_search(tenant->pools, &pool, HASH_FIND, &found));
    if (found)
        return told;
    const Oid types[] = {INT8OID, INT4OID};
    Datum values[] = {Int64GetDatum(tenant->tenant), Int32GetDatum(pool)};
    SPITupleTable* rows = read_rows(&plan,
                                    "SELECT manager, credit_returns_cap FROM leadroute.pool"
                                    " WHERE tenant = $1 AND id = $2",
                                    2, types, values);
    bool known = SPI_processed == 1;
    told = static_cast<PoolTold*>(hash_search(tenant->pools, &pool, HASH_ENTER, NULL));
    told->manager = known ? DatumGetInt64(column(rows, 0, 1)) : 0;
    told->credit_returns_cap = !known || DatumGetBool(column(rows, 0, 2));
    SPI_freetuptable(rows);
    return told;
}

int64 sla_manager_of_pool(SlaTenant* tenant, int32 pool) {
    return pool == 0 ? 0 : pool_told(tenant, pool)->manager;
}

bool sla_credit_returns_cap(SlaTenant* tenant, int32 pool) {
    return pool_told(tenant, pool)->credit_returns_cap;
}

int32 sla_pool_named(SlaTenant* tenant, const char* name) {
    static SPIPlanPtr plan;
    const Oid types[] = {INT8OID, TEXTOID};
    Datum values[] = {Int64GetDatum(tenant->tenant), CStringGetTextDatum(name)};
    SPITupleTable* rows = read_rows(
        &plan, "SELECT id FROM leadroute.pool WHERE tenant = $1 AND name = $2", 2, types, values);
    int32 pool = SPI_processed == 1 ? DatumGetInt32(column(rows, 0, 1)) : 0;
    SPI_freetuptable(rows);
    return pool;
}
