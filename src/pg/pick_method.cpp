// What a pool's method makes of its members: who takes the lead, and what they are compared by. The
// order itself is the queue's (core/fair_queue.h); the tenant's lock is held.
#include "pick_site.h"

// --- nearest: a lane for each place ---

static bool by_distance(const Site* site, const PoolState* pool) {
    return pool->queue.order == core::Order::places && site->request->place != NULL;
}

static double distance_of(Site* site, const PoolState* pool, int32 lane) {
    return core::chord2(*site->block->spot(pool->first_lane + lane), *site->request->place);
}

static void note_near(Site* site, int32 lane, double distance) {
    int32 i = Min(site->near_count, kNearPlaces - 1);
    for (; i > 0 && site->near[i - 1].distance > distance; i--)
        site->near[i] = site->near[i - 1];
    site->near[i] = {lane, distance};
    site->near_count = Min(site->near_count + 1, kNearPlaces);
}

// Finds the nearest few lanes with somebody available, the nearest first. Lanes are in order from
// south to north, so the search goes from the lead's parallel both ways, until what is farther
// along the axis alone than the places found is not worth a look.
static void find_near(Site* site, PoolState* pool) {
    const core::Spot* spots = site->block->spot(pool->first_lane);
    const core::Lane* lanes = site->block->lane(pool->first_lane);
    const core::Spot here = *site->request->place;
    int32 count = pool->queue.lane_count;
    if (!core::is_somewhere(spots[count - 1]))
        count--;
    int32 north = 0;
    for (int32 end = count; north < end;) {
        int32 middle = north + (end - north) / 2;
        if (spots[middle].z < here.z)
            north = middle + 1;
        else
            end = middle;
    }
    int32 south = north - 1;
    site->near_count = 0;
    while (south >= 0 || north < count) {
        bool up = south < 0 || (north < count && spots[north].z - here.z < here.z - spots[south].z);
        int32 k = up ? north++ : south--;
        double along = spots[k].z - here.z;
        if (site->near_count == kNearPlaces &&
            along * along >= site->near[kNearPlaces - 1].distance)
            break;
        double distance = core::chord2(spots[k], here);
        if (lanes[k].active_sum != 0 &&
            (site->near_count < kNearPlaces || distance < site->near[kNearPlaces - 1].distance))
            note_near(site, k, distance);
    }
}

static bool waited_longer(const core::Member* a, const core::Member* b) {
    return a->last_turn != b->last_turn ? a->last_turn < b->last_turn : a->id < b->id;
}

// Of the nearest place; of places equally far the member who waits longest. Who is nowhere known is
// in the last lane.
static int32 next_near(Site* site, PoolState* pool) {
    core::FairQueue queue = site->block->queue(pool);
    find_near(site, pool);
    if (site->near_count == 0)
        return queue.next_in(pool->queue.lane_count - 1);
    const core::Member* tags = site->block->tag(pool->first_member);
    int32 found = queue.next_in(site->near[0].lane);
    for (int32 i = 1; i < site->near_count; i++) {
        if (!core::as_far(site->near[i].distance, site->near[0].distance))
            break;
        int32 other = queue.next_in(site->near[i].lane);
        if (waited_longer(&tags[other], &tags[found]))
            found = other;
    }
    return found;
}

// The same among some members.
static int32 next_near_among(Site* site, PoolState* pool) {
    const core::Member* tags = site->block->tag(pool->first_member);
    int32 found = -1;
    double least = get_float8_infinity();
    for (int32 i = 0; i < site->filtered_count; i++) {
        int32 k = site->filtered[i];
        if (tags[k].place == core::Place::parked)
            continue;
        double distance = distance_of(site, pool, tags[k].lane);
        if (isnan(distance))
            distance = get_float8_infinity();
        bool same = found >= 0 && (distance == least || core::as_far(distance, least));
        if (found < 0 || (same ? waited_longer(&tags[k], &tags[found]) : distance < least)) {
            found = k;
            least = Min(least, distance);
        }
    }
    return found < 0 ? -1
                     : site->block->queue(pool).next_in_among(tags[found].lane, site->filtered,
                                                              site->filtered_count);
}

// --- value ---

int64 lead_extra(Site* site, const PoolState* pool) {
    if (site->request->value > 0)
        return core::extra_of(site->request->value);
    double extra = 0, leads = 0;
    for (int32 k = 0; k < pool->queue.member_count; k++) {
        const MemberState* member = site->block->member(pool->first_member + k);
        extra += (double)member->extra;
        leads += (double)member->received;
    }
    return leads > 0 ? (int64)(extra / leads) : 0;
}

// --- all methods ---

int32 next_member(Site* site, PoolState* pool) {
    core::FairQueue queue = site->block->queue(pool);
    if (by_distance(site, pool))
        return site->filter ? next_near_among(site, pool) : next_near(site, pool);
    return site->filter ? queue.next_among(site->filtered, site->filtered_count, site->extra)
                        : queue.next(site->extra);
}

int32 upcoming_members(Site* site, PoolState* pool, int32* out, int32 max) {
    core::FairQueue queue = site->block->queue(pool);
    if (!by_distance(site, pool))
        return queue.upcoming(out, max);
    find_near(site, pool);
    int32 count = Min(max, site->near_count);
    for (int32 i = 0; i < count; i++)
        out[i] = queue.next_in(site->near[i].lane);
    return count;
}

core::Measure pool_measure(const Site* site, const PoolState* pool) {
    if (by_distance(site, pool))
        return core::Measure::kilometres;
    if (pool->by_value)
        return core::Measure::value;
    return pool->queue.order == core::Order::least ? core::Measure::open : core::Measure::turns;
}

double member_measure(Site* site, PoolState* pool, int32 member) {
    switch (pool_measure(site, pool)) {
    case core::Measure::kilometres:
        return core::kilometres(distance_of(site, pool, site->block->tag(member)->lane));
    case core::Measure::open:
        return site->block->tag(member)->load;
    default:
        return site->block->queue(pool).deficit(member - pool->first_member);
    }
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
