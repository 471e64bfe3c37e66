// See claim_allowance.h.
#include "claim_allowance.h"

extern "C" {
#include "common/hashfn.h"
#include "storage/lock.h"
#include "utils/fmgrprotos.h"
}

void allowance_lock(const ClaimTerms* terms) {
    struct {
        int64 tenant;
        int64 rep;
    } who = {terms->key.tenant, terms->rep};
    uint32 hash = hash_bytes(reinterpret_cast<const unsigned char*>(&who), sizeof(who));
    LOCKTAG tag;
    // an advisory lock of a class that SQL cannot take; reps with the same hash wait for each other
    SET_LOCKTAG_ADVISORY(tag, terms->key.database, terms->key.assignment, hash, 0x4c43);
    (void)LockAcquire(&tag, ExclusiveLock, false, false);
}

// The claims of a rep from a pool: in halves, for the two indexes of its leads.

// Without those that were credited back with the day.
static const char kDaily[] = R"(
    SELECT (SELECT count(*) FROM leadroute.assignment a
            WHERE a.tenant = $1 AND a.rep = $2 AND a.pool = $3 AND a.method = 'claim'
              AND a.ended_at IS NULL AND a.day = d.day AND a.credit_day IS NOT TRUE)
         + (SELECT count(*) FROM leadroute.assignment a
            WHERE a.tenant = $1 AND a.rep = $2 AND a.pool = $3 AND a.method = 'claim'
              AND a.ended_at IS NOT NULL AND a.day = d.day AND a.credit_day IS NOT TRUE),
        (d.day + 1)::timestamp AT TIME ZONE $4
    FROM (SELECT (clock_timestamp() AT TIME ZONE $4)::date) AS d (day))";
static const char kOpen[] = R"(
    SELECT count(*), NULL::timestamptz FROM leadroute.assignment a
    WHERE a.tenant = $1 AND a.rep = $2 AND a.pool = $3 AND a.method = 'claim' AND a.ended_at IS NULL)";
// By the index of days, in whatever zone they were.
static const char kLast[] = R"(
    SELECT 0::bigint, greatest((SELECT max(a.decided_at) FROM leadroute.assignment a
            WHERE a.tenant = $1 AND a.rep = $2 AND a.pool = $3 AND a.method = 'claim'
              AND a.ended_at IS NULL AND a.day >= d.day),
        (SELECT max(a.decided_at) FROM leadroute.assignment a
            WHERE a.tenant = $1 AND a.rep = $2 AND a.pool = $3 AND a.method = 'claim'
              AND a.ended_at IS NOT NULL AND a.day >= d.day)) + $5
    FROM (SELECT (clock_timestamp() - $5)::date - 1) AS d (day))";

struct Count {
    int64 used;
    TimestampTz until; // DT_NOBEGIN: none
};

static Count ask(SPIPlanPtr* plan, const char* query, const ClaimTerms* terms,
                 const PoolTerms* pool) {
    if (*plan == NULL) {
        Oid types[] = {INT8OID, INT8OID, INT4OID, TEXTOID, INTERVALOID};
        *plan = SPI_prepare(query, lengthof(types), types);
        if (*plan == NULL || SPI_keepplan(*plan) != 0)
            elog(ERROR, "cannot prepare \"%s\": %s", query, SPI_result_code_string(SPI_result));
    }
    Datum values[] = {Int64GetDatum(terms->key.tenant), Int64GetDatum(terms->rep),
                      Int32GetDatum(pool->pool), CStringGetTextDatum(terms->timezone),
                      IntervalPGetDatum(&pool->delay)};
    if (SPI_execute_plan(*plan, values, NULL, true, 1) != SPI_OK_SELECT || SPI_processed != 1)
        elog(ERROR, "cannot read leadroute.assignment");
    HeapTuple row = SPI_tuptable->vals[0];
    bool isnull;
    Count count = {};
    count.used = DatumGetInt64(SPI_getbinval(row, SPI_tuptable->tupdesc, 1, &isnull));
    Datum until = SPI_getbinval(row, SPI_tuptable->tupdesc, 2, &isnull);
    count.until = isnull ? DT_NOBEGIN : DatumGetTimestampTz(until);
    return count;
}

// Within SPI, as leadroute's owner, under the latest snapshot.
static bool count_all(const ClaimTerms* terms, const PoolTerms* pool, AllowanceUse* use) {
    static SPIPlanPtr daily, open, last;
    if (pool->has_delay) {
        Count count = ask(&last, kLast, terms, pool);
        *use = {"claim_delay", 0, 0, count.until};
        if (count.until > GetCurrentTimestamp())
            return false;
    }
    if (pool->open >= 0) {
        Count count = ask(&open, kOpen, terms, pool);
        *use = {"claim_open", static_cast<int32>(count.used), pool->open, DT_NOEND};
        if (count.used >= pool->open)
            return false;
    }
    if (pool->daily >= 0) {
        Count count = ask(&daily, kDaily, terms, pool);
        *use = {"claim_daily", static_cast<int32>(count.used), pool->daily, count.until};
        if (count.used >= pool->daily)
            return false;
    }
    return true;
}

bool allowance_left(const ClaimTerms* terms, const PoolTerms* pool, AllowanceUse* use) {
    if (!has_allowance(pool))
        return true;
    OwnerScope owner;
    owner_scope_begin(&owner);
    SPI_connect();
    PushActiveSnapshot(GetLatestSnapshot());
    bool left = count_all(terms, pool, use);
    PopActiveSnapshot();
    SPI_finish();
    owner_scope_end(&owner);
    return left;
}
