// What a rep may claim now, for the lists of sql/available.sql: by the terms, caps and allowances
// that claim() itself goes by. Takes no turn and no lock that anybody waits for.
#include "leadroute.h"

#include "claim_allowance.h"
#include "pick_claim.h"
#include "placement.h"
#include "skills.h"
#include "tenant.h"

extern "C" {
#include "utils/array.h"
}

static TenantKey tenant_key(int64 tenant) {
    return {MyDatabaseId, placement(InvalidOid, tenant), tenant};
}

// May the rep claim some lead of the pool now?
static bool may_claim(const ClaimTerms* terms, const PoolTerms* pool) {
    AllowanceUse use;
    PickRequest request = {};
    request.key = &terms->key;
    request.pool = pool->pool;
    request.rep = terms->rep;
    request.now = GetCurrentTimestamp();
    return !pool->blind && claim_bar(&request) == ClaimBar::none &&
           allowance_left(terms, pool, &use);
}

extern "C" {
PG_FUNCTION_INFO_V1(leadroute_claim_pools);
PG_FUNCTION_INFO_V1(leadroute_meets);

// _claim_pools(tenant bigint, rep bigint) -> SETOF (pool integer, pulls boolean, exclusive
// interval)
Datum leadroute_claim_pools(PG_FUNCTION_ARGS) {
    shared_require();
    ReturnSetInfo* rows = start_rows(fcinfo);
    TenantKey key = tenant_key(PG_GETARG_INT64(0));
    const ClaimTerms* terms = claim_terms(&key, PG_GETARG_INT64(1));
    for (int32 i = 0; i < terms->count; i++) {
        const PoolTerms* pool = &terms->pool[i];
        if (!may_claim(terms, pool))
            continue;
        bool waits = pool->has_exclusive && !pool->first_tier;
        Datum values[] = {Int32GetDatum(pool->pool), BoolGetDatum(pool->pulls),
                          IntervalPGetDatum(&pool->exclusive)};
        bool nulls[] = {false, false, !waits};
        tuplestore_putvalues(rows->setResult, rows->setDesc, values, nulls);
    }
    return (Datum)0;
}

// _meets(tenant bigint, rep bigint, needs text[]) -> boolean
Datum leadroute_meets(PG_FUNCTION_ARGS) {
    TenantKey key = tenant_key(PG_GETARG_INT64(0));
    Needs needs;
    needs_read(PG_GETARG_ARRAYTYPE_P(2), &needs);
    PG_RETURN_BOOL(needs.count == 0 || pick_has_skills(&key, PG_GETARG_INT64(1), &needs));
}
}
