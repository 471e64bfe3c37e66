// On what terms a rep claims leads, and who may claim for him: read once in a session, and again
// when the configuration, or what roles may do, has changed.
#pragma once

#include "leadroute.h"

#include "shared.h"

extern "C" {
#include "mb/pg_wchar.h"
}

// of the longest that are accepted (checks.sql)
constexpr int kPoolNameLength = 63 * MAX_MULTIBYTE_CHAR_LEN + 1;
constexpr int kRefLength = 200 * MAX_MULTIBYTE_CHAR_LEN + 1;

// Of one pool that the rep is a member of.
struct PoolTerms {
    int32 pool;
    char name[kPoolNameLength];
    bool pulls;      // its mode is pull or broadcast
    bool blind;      // claim_blind
    bool random;     // shark_tank_order
    bool first_tier; // the rep is of the lowest tier
    bool foreign;    // the present user, a manager, has to do neither with the rep nor with it
    bool has_exclusive, has_delay;
    int32 daily, open; // claim_daily and claim_open, -1: none
    Interval exclusive;
    Interval delay;
};

struct ClaimTerms {
    TenantKey key;
    int64 rep;
    bool known;   // there is such a rep
    bool limited; // one of the pools has an allowance
    bool has_ref, has_uuid;
    char ref[kRefLength];
    char uuid[40];
    char timezone[64];
    int32 count;
    PoolTerms pool[FLEXIBLE_ARRAY_MEMBER];
};

inline bool has_allowance(const PoolTerms* pool) {
    return pool->daily >= 0 || pool->open >= 0 || pool->has_delay;
}

// The rep's terms as of now, in the current memory context.
ClaimTerms* claim_terms(const TenantKey* key, int64 rep);
const PoolTerms* terms_of_pool(const ClaimTerms* terms, int32 pool);

// The level by which the present user may act for the rep, as _require_rep(); LR012 if it may not.
const char* claim_level(const TenantKey* key, int64 rep);
// Marks the pools that are foreign to whoever acts with this level for the rep.
void claim_foreign(ClaimTerms* terms, const char* level);
