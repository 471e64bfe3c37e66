// What a pool's method makes of its members: who takes the lead, and what they are compared by. The
// order itself is the queue's (core/fair_queue.h); the tenant's lock is held.
#include "pick_site.h"

int32 next_member(Site* site, PoolState* pool) {
    core::FairQueue queue = site->block->queue(pool);
    return site->filter ? queue.next_among(site->filtered, site->filtered_count) : queue.next();
}

core::Measure pool_measure(const PoolState* pool) {
    return pool->queue.order == core::Order::least ? core::Measure::open : core::Measure::turns;
}

double member_measure(Site* site, PoolState* pool, int32 member) {
    if (pool_measure(pool) == core::Measure::open)
        return site->block->tag(member)->load;
    return site->block->queue(pool).deficit(member - pool->first_member);
}

bool of_later_tier(Site* site, const PoolState* pool, int32 member, int32 picked) {
    return pool->queue.order == core::Order::tiers && picked >= 0 &&
           site->block->tag(member)->lane > site->block->tag(picked)->lane;
}

int32 later_tier_count(Site* site, const PoolState* pool, int32 picked) {
    int32 count = 0;
    if (pool->queue.order != core::Order::tiers || picked < 0)
        return 0;
    if (site->filter) {
        for (int32 i = 0; i < site->filtered_count; i++)
            if (of_later_tier(site, pool, pool->first_member + site->filtered[i], picked))
                count++;
        return count;
    }
    for (int32 k = site->block->tag(picked)->lane + 1; k < pool->queue.lane_count; k++) {
        const core::Lane* lane = site->block->lane(pool->first_lane + k);
        count += lane->ready_count + lane->waiting_count;
    }
    return count;
}
