// See claim_terms.h.
#include "claim_terms.h"
#include "lead_table.h"
#include "placement.h"
#include "transaction.h"
#include "trigger_call.h"

constexpr int kLevelLength = 16;
constexpr long kRepsKept = 1000;

struct Key {
    TenantKey tenant;
    int64 rep;
};

struct Known {
    Key key;
    uint64 generation;
    uint64 serial;
    Size size;
    ClaimTerms* terms; // NULL: not read yet
    uint64 roles;      // roles_changed when the level was asked
    Oid role;          // whose level that is
    char level[kLevelLength];
};

static HTAB* known;
static MemoryContext context;
static uint64 roles_changed = 1;
static Oid access_table;
static bool access_known; // and told of when it changes

static void role_changed(Datum, int, uint32) {
    roles_changed++;
}

static void relation_changed(Datum, Oid relation) {
    if (OidIsValid(relation) && relation != access_table)
        return;
    roles_changed++;
    access_known = false;
}

static void find_access_table(void) {
    Oid access = get_relname_relid("access", leadroute_schema());
    if (access != access_table)
        roles_changed++;
    access_table = access;
    access_known = OidIsValid(access);
}

// An empty cache; what was in it may be in use further out.
static void start_over(void) {
    if (context == NULL) {
        CacheRegisterSyscacheCallback(AUTHOID, role_changed, (Datum)0);
        CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, role_changed, (Datum)0);
        CacheRegisterRelcacheCallback(relation_changed, (Datum)0);
    } else {
        MemoryContextDelete(context);
    }
    known = NULL;
    context =
        AllocSetContextCreate(TopMemoryContext, "leadroute claim terms", ALLOCSET_DEFAULT_SIZES);
    HASHCTL control = {};
    control.keysize = sizeof(Key);
    control.entrysize = sizeof(Known);
    control.hcxt = context;
    known =
        hash_create("leadroute claim terms", 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

static Known* find(const TenantKey* key, int64 rep) {
    if (known == NULL || hash_get_num_entries(known) > kRepsKept)
        start_over();
    Key wanted = {*key, rep};
    bool found;
    Known* entry = static_cast<Known*>(hash_search(known, &wanted, HASH_ENTER, &found));
    if (!found)
        memset(reinterpret_cast<char*>(entry) + sizeof(Key), 0, sizeof(Known) - sizeof(Key));
    return entry;
}

// --- terms ---

static const char kQuery[] =
    "SELECT r.ref, CASE WHEN lower(translate(r.ref, '{}-', '')) ~ '^[0-9a-f]{32}$'"
    "              THEN r.ref::uuid::text END,"
    "       r.timezone, p.id, p.name, p.mode <> 'push', p.claim_blind,"
    "       p.shark_tank_order = 'random',"
    "       p.claim_exclusive IS NULL OR m.tier = (SELECT min(o.tier) FROM leadroute.pool_member o"
    "                                     WHERE o.tenant = p.tenant AND o.pool = p.name),"
    "       COALESCE(m.claim_daily, p.claim_daily), COALESCE(m.claim_open, p.claim_open),"
    "       COALESCE(m.claim_delay, p.claim_delay), p.claim_exclusive"
    "  FROM leadroute.rep r"
    "  LEFT JOIN leadroute.pool_member m ON m.tenant = r.tenant AND m.rep = r.id"
    "  LEFT JOIN leadroute.pool p ON p.tenant = m.tenant AND p.name = m.pool"
    " WHERE r.tenant = $1 AND r.id = $2 ORDER BY p.id";

static Datum column(uint64 row, int number, bool* isnull) {
    return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, number, isnull);
}

static bool true_in(uint64 row, int number) {
    bool isnull;
    Datum value = column(row, number, &isnull);
    return !isnull && DatumGetBool(value);
}

static int32 limit_in(uint64 row, int number) {
    bool isnull;
    Datum value = column(row, number, &isnull);
    return isnull ? -1 : DatumGetInt32(value);
}

static bool interval_in(uint64 row, int number, Interval* out) {
    bool isnull;
    Datum value = column(row, number, &isnull);
    if (!isnull)
        *out = *DatumGetIntervalP(value);
    return !isnull;
}

static bool text_in(int number, char* out, Size room) {
    const char* value = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, number);
    strlcpy(out, value == NULL ? "" : value, room);
    return value != NULL && strlen(value) < room;
}

static void read_pool(uint64 row, PoolTerms* pool) {
    bool isnull;
    pool->pool = DatumGetInt32(column(row, 4, &isnull));
    strlcpy(pool->name, SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, 5),
            sizeof(pool->name));
    pool->pulls = true_in(row, 6);
    pool->blind = true_in(row, 7);
    pool->random = true_in(row, 8);
    pool->first_tier = true_in(row, 9);
    pool->daily = limit_in(row, 10);
    pool->open = limit_in(row, 11);
    pool->has_delay = interval_in(row, 12, &pool->delay);
    pool->has_exclusive = interval_in(row, 13, &pool->exclusive);
}

// Within SPI, as leadroute's owner; in the cache's memory.
static ClaimTerms* read_terms(const Key* key, Size* size) {
    Oid types[] = {INT8OID, INT8OID};
    Datum values[] = {Int64GetDatum(key->tenant.tenant), Int64GetDatum(key->rep)};
    if (SPI_execute_with_args(kQuery, 2, types, values, NULL, true, 0) != SPI_OK_SELECT)
        elog(ERROR, "cannot read the configuration of leadroute");
    *size = offsetof(ClaimTerms, pool) + sizeof(PoolTerms) * SPI_processed;
    ClaimTerms* terms = static_cast<ClaimTerms*>(MemoryContextAllocZero(context, *size));
    terms->key = key->tenant;
    terms->rep = key->rep;
    terms->known = SPI_processed > 0;
    if (!terms->known)
        return terms;
    terms->has_ref = text_in(1, terms->ref, sizeof(terms->ref));
    terms->has_uuid = text_in(2, terms->uuid, sizeof(terms->uuid));
    (void)text_in(3, terms->timezone, sizeof(terms->timezone));
    for (uint64 row = 0; row < SPI_processed; row++) {
        bool isnull;
        (void)column(row, 4, &isnull);
        if (isnull) // of no pool
            continue;
        PoolTerms* pool = &terms->pool[terms->count++];
        read_pool(row, pool);
        terms->limited = terms->limited || has_allowance(pool);
    }
    return terms;
}

static void refresh(Known* entry, uint64 generation) {
    if (entry->terms != NULL)
        pfree(entry->terms);
    entry->terms = NULL;
    uint64 serial = config_serial();
    OwnerScope owner;
    owner_scope_begin(&owner);
    SPI_connect();
    PushActiveSnapshot(GetLatestSnapshot());
    entry->terms = read_terms(&entry->key, &entry->size);
    PopActiveSnapshot();
    SPI_finish();
    owner_scope_end(&owner);
    entry->generation = generation;
    entry->serial = serial;
    entry->roles = 0; // whose manager is whom
}

ClaimTerms* claim_terms(const TenantKey* key, int64 rep) {
    uint64 generation = tenant_generation(key);
    Known* entry = find(key, rep);
    if (entry->terms == NULL || entry->generation != generation || entry->serial != config_serial())
        refresh(entry, generation);
    ClaimTerms* terms = static_cast<ClaimTerms*>(palloc(entry->size));
    memcpy(static_cast<void*>(terms), entry->terms, entry->size);
    return terms;
}

const PoolTerms* terms_of_pool(const ClaimTerms* terms, int32 pool) {
    for (int32 i = 0; i < terms->count; i++)
        if (terms->pool[i].pool == pool)
            return &terms->pool[i];
    return NULL;
}

// --- levels ---

static void ask_level(const TenantKey* key, int64 rep, char* level) {
    NameData caller;
    namestrcpy(&caller, GetUserNameFromId(GetUserId(), false));
    Oid types[] = {NAMEOID, INT8OID, INT8OID};
    Datum values[] = {NameGetDatum(&caller), Int64GetDatum(key->tenant), Int64GetDatum(rep)};
    OwnerScope owner;
    owner_scope_begin(&owner);
    SPI_connect();
    PushActiveSnapshot(GetLatestSnapshot());
    if (SPI_execute_with_args("SELECT leadroute._require_rep_for($1, $2, $3)", 3, types, values,
                              NULL, true, 1) != SPI_OK_SELECT ||
        SPI_processed != 1)
        elog(ERROR, "cannot ask for the rights of a role");
    strlcpy(level, SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1), kLevelLength);
    PopActiveSnapshot();
    SPI_finish();
    owner_scope_end(&owner);
}

const char* claim_level(const TenantKey* key, int64 rep) {
    uint64 generation = tenant_generation(key);
    Known* entry = find(key, rep);
    if (!access_known)
        find_access_table();
    if (entry->roles == roles_changed && entry->role == GetUserId() &&
        entry->generation == generation && entry->serial == config_serial())
        return entry->level;
    entry->roles = 0;
    uint64 roles = roles_changed;
    if (entry->terms == NULL || entry->generation != generation || entry->serial != config_serial())
        refresh(entry, generation);
    char level[kLevelLength];
    ask_level(key, rep, level);
    strlcpy(entry->level, level, kLevelLength);
    entry->role = GetUserId();
    entry->roles = roles;
    return entry->level;
}

void claim_foreign(ClaimTerms* terms, const char* level) {
    if (strcmp(level, "manager") != 0)
        return;
    NameData caller;
    namestrcpy(&caller, GetUserNameFromId(GetUserId(), false));
    Oid types[] = {NAMEOID, INT8OID, INT8OID};
    Datum values[] = {NameGetDatum(&caller), Int64GetDatum(terms->key.tenant),
                      Int64GetDatum(terms->rep)};
    OwnerScope owner;
    owner_scope_begin(&owner);
    SPI_connect();
    PushActiveSnapshot(GetLatestSnapshot());
    if (SPI_execute_with_args("SELECT f FROM leadroute._foreign_pools($1, $2, $3) f", 3, types,
                              values, NULL, true, 0) != SPI_OK_SELECT)
        elog(ERROR, "cannot ask for the pools of a manager");
    for (uint64 row = 0; row < SPI_processed; row++) {
        bool isnull;
        int32 pool = DatumGetInt32(column(row, 1, &isnull));
        for (int32 i = 0; i < terms->count; i++)
            terms->pool[i].foreign = terms->pool[i].foreign || terms->pool[i].pool == pool;
    }
    PopActiveSnapshot();
    SPI_finish();
    owner_scope_end(&owner);
}

extern "C" {
PG_FUNCTION_INFO_V1(leadroute_access_changed);

// AFTER each statement on leadroute.access: every session forgets what it knows of roles, this one
// now and the others once it is committed.
Datum leadroute_access_changed(PG_FUNCTION_ARGS) {
    CacheInvalidateRelcache(trigger_data(fcinfo)->tg_relation);
    PG_RETURN_POINTER(NULL);
}
}
