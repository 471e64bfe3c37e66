// What sweep() knows of a tenant's policies, pools and managers: read once, and again when the
// configuration has changed.
#pragma once

#include "leadroute.h"

#include "shared.h"

enum class SlaAction {
    none,
    remind,
    escalate,
    reroute,
    shark_tank,
    recycle,
    notify_manager,
    set_away
};

struct SlaStep {
    int64 id;           // 0: the breach
    int64 after;        // microseconds
    Interval* interval; // the same, as the policy says it
    SlaAction action;
    int32 pool; // id, 0: none
};

struct SlaTerms {
    int32 id;
    const char* name;
    bool business_time;
    bool to_pool;
    bool returns_turn;
    bool moves_manual;
    int32 exclude_last; // PG_INT32_MAX: all
    int32 max_hops;     // PG_INT32_MAX: any number
    int32 recycle_pool; // id, 0: none
    int32 away_after;   // 0: never
    Interval* away_for; // NULL: until a person says so
    int32 digest_over;
    int step_count; // with the breach, in the order of their times
    SlaStep* steps;
};

struct SlaTenant; // what is known of one

// Everything that is known; kept by one sweep.
struct SlaKnown {
    MemoryContext context;
    HTAB* tenants;
};
void sla_known_begin(SlaKnown* known);

// Good until it is asked for again in another transaction.
SlaTenant* sla_tenant(SlaKnown* known, int64 tenant);
// NULL: it is gone.
const SlaTerms* sla_terms(SlaTenant* tenant, int32 policy);

// Managers are looked up where somebody has to be told. 0: none.
int64 sla_manager_of_rep(SlaTenant* tenant, int64 rep);
int64 sla_manager_of_pool(SlaTenant* tenant, int32 pool);
// So many reps at once, which spares to look up one by one.
void sla_managers_want(SlaTenant* tenant, const int64* reps, int count);
// Whether a turn of this pool that is credited back gives the day's cap back, too.
bool sla_credit_returns_cap(SlaTenant* tenant, int32 pool);
// A pool by name; 0: none.
int32 sla_pool_named(SlaTenant* tenant, const char* name);
