// Fills a newly laid out block with counts: from the record, or from the block that it replaces.
// What runs under a slot's lock (carry_over) allocates nothing.
#include "rebuild.h"
#include "availability.h"

static void* zeroed(Size count, Size size) {
    return MemoryContextAllocExtended(CurrentMemoryContext, (count + 1) * size,
                                      MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
}

// Those who were away are owed what the catch-up policy says, at the cost of those who were not.
static void let_return(TenantBlock* block, PoolState* pool, const bool* returning) {
    core::FairQueue queue = block->queue(pool);
    int32 count = 0;
    for (int32 k = 0; k < pool->queue.member_count; k++) {
        int32 i = pool->first_member + k;
        if (!returning[i] || block->member(i)->reason != core::State::turn)
            continue;
        queue.prepay(k, queue.owed(k, pool->catch_up, pool->catch_up_limit));
        count++;
    }
    for (int32 k = 0; count > 0 && k < pool->queue.member_count; k++) {
        int32 i = pool->first_member + k;
        if (returning[i] && block->member(i)->reason == core::State::turn)
            queue.restore(k, queue.owed(k, pool->catch_up, pool->catch_up_limit));
    }
    if (count > 0)
        queue.recentre(); // where nobody had stayed, they pay each other
}

// Sets the deficits and who is eligible now, once all counts are there. `deficit` by member.
static void start_queues(TenantBlock* block, const double* deficit, const bool* returning,
                         const ZoneDays* zones) {
    for (int32 p = 0; p < block->pool_count; p++) {
        PoolState* pool = block->pool(p);
        core::FairQueue queue = block->queue(pool);
        for (int32 k = 0; k < pool->queue.member_count; k++) {
            int32 i = pool->first_member + k;
            MemberState* member = block->member(i);
            core::Member* tag = block->tag(i);
            core::State state = member_state(block, i, zones);
            pool->parked[static_cast<int>(member->reason)]--;
            member->reason = state;
            tag->parked_deficit = deficit[i];
            tag->load = block->rep(member->rep)->open.used;
            bool returns = returning != NULL && returning[i];
            if (state == core::State::turn) {
                if (!returns)
                    queue.restore(k, deficit[i]);
            } else {
                pool->parked[static_cast<int>(state)]++;
                if (!returns)
                    tag->ideal_left = block->lane_of(i)->ideal;
            }
        }
        queue.recentre();
        if (returning != NULL)
            let_return(block, pool, returning);
        pool->checked_minute = zones->minute;
    }
}

void start_level(TenantBlock* block, const ZoneDays* zones) {
    const double* nothing = static_cast<double*>(zeroed(block->member_count, sizeof(double)));
    start_queues(block, nothing, NULL, zones);
}

// What the record says of members of a lane who are all away was written at different times, and
// may not sum to zero, as recentre() sees to where somebody is there.
static void level_parked(TenantBlock* block) {
    double* sum = static_cast<double*>(zeroed(block->lane_count, sizeof(double)));
    double* weight = static_cast<double*>(zeroed(block->lane_count, sizeof(double)));
    for (int32 i = 0; i < block->member_count; i++) {
        auto lane = block->lane_of(i) - block->lane(0);
        sum[lane] += block->tag(i)->parked_deficit;
        weight[lane] += block->tag(i)->weight;
    }
    for (int32 i = 0; i < block->member_count; i++) {
        core::Member* tag = block->tag(i);
        auto lane = block->lane_of(i) - block->lane(0);
        if (block->lane(static_cast<int32>(lane))->active_sum == 0)
            tag->parked_deficit -= sum[lane] * tag->weight / weight[lane];
    }
}

static const CheckpointMember* find_in_checkpoint(const Checkpoint* checkpoint, int32 pool,
                                                  int64 rep) {
    int32 low = 0, high = checkpoint->member_count - 1;
    while (low <= high) {
        int32 middle = (low + high) / 2;
        const CheckpointMember* m = &checkpoint->members[middle];
        if (m->pool == pool && m->rep == rep)
            return m;
        if (m->pool < pool || (m->pool == pool && m->rep < rep))
            low = middle + 1;
        else
            high = middle - 1;
    }
    return NULL;
}

static void recount_init(Recount* r, TenantBlock* block, const Checkpoint* checkpoint) {
    memset(r, 0, sizeof(*r));
    r->block = block;
    r->checkpoint = checkpoint;
    r->rep_wanted = static_cast<bool*>(zeroed(block->rep_count, sizeof(bool)));
    r->member_wanted = static_cast<bool*>(zeroed(block->member_count, sizeof(bool)));
    r->member_full = static_cast<bool*>(zeroed(block->member_count, sizeof(bool)));
    r->last_ticket = static_cast<int64*>(zeroed(block->member_count, sizeof(int64)));
    r->last_at = static_cast<TimestampTz*>(zeroed(block->member_count, sizeof(TimestampTz)));
    r->last_deficit = static_cast<double*>(zeroed(block->member_count, sizeof(double)));
    r->open_capped = static_cast<bool*>(zeroed(block->rep_count, sizeof(bool)));
    r->credited = static_cast<double*>(zeroed(block->member_count, sizeof(double)));
    r->last_tag = static_cast<double*>(zeroed(block->member_count, sizeof(double)));
    for (int32 i = 0; i < block->member_count; i++)
        r->last_at[i] = DT_NOBEGIN;
    for (int32 i = 0; i < block->member_count; i++)
        r->last_tag[i] = get_float8_nan();
}

// The order of the last turns settles ties; the clock is as good an order as the count of turns.
static void restore_last_turns(TenantBlock* block, const TimestampTz* last_at) {
    for (int32 i = 0; i < block->member_count; i++) {
        if (last_at[i] <= 0)
            continue;
        PoolState* pool = block->pool(block->member(i)->pool);
        block->tag(i)->last_turn = (uint64)last_at[i];
        block->member(i)->settled_turn = (uint64)last_at[i];
        if (pool->queue.turns < (uint64)last_at[i])
            pool->queue.turns = (uint64)last_at[i];
    }
}

// --- where each member stood ---
//
// A member's start tag is that of its latest row, moved by the turns that landed since (block_tag()
// says why the turns in flight at that row do not matter), or that of the checkpoint. The pool's
// virtual time (of each lane) is that of its latest row. Their difference is what a member is owed,
// unless it was away in between: who was capped or not available since its latest row is owed what
// it was owed then, and what the catch-up policy adds.

struct Standing {
    double start;   // start tag; NaN: nothing is known, so nothing is owed
    double deficit; // when last heard of
    bool away;      // has been since, or capped
};

static bool full_since(const DayCounts* days, int32 cap, DateADT since) {
    for (int32 i = 0; cap != kNoCap && i < days->count; i++)
        if (days->slot[i].day >= since && days->slot[i].used >= cap)
            return true;
    return false;
}

// Was a cap reached on the day of the member's latest row, or later?
static bool was_capped(TenantBlock* block, int32 member) {
    const MemberState* m = block->member(member);
    const RepState* rep = block->rep(m->rep);
    DateADT latest = PG_INT32_MIN;
    for (int32 i = 0; i < m->days.count; i++)
        latest = Max(latest, m->days.slot[i].day);
    return full_since(&m->days, m->cap, latest) || full_since(&rep->days, rep->cap, latest);
}

static void stand(Recount* r, int32 member, TimestampTz now, Standing* standing) {
    TenantBlock* block = r->block;
    MemberState* m = block->member(member);
    core::Member* tag = block->tag(member);
    const CheckpointMember* before =
        find_in_checkpoint(r->checkpoint, block->pool(m->pool)->id, tag->id);
    double since = core::cost_of(m->received, m->extra);
    if (before != NULL) {
        m->received += before->received;
        m->extra += before->extra;
    }
    TimestampTz heard_of = !isnan(r->last_tag[member]) ? r->last_at[member] : r->checkpoint->since;
    standing->away = was_capped(block, member) || r->open_capped[m->rep] ||
                     member_was_away(block, member, heard_of, now);
    standing->deficit = before == NULL ? 0 : before->deficit;
    standing->start = get_float8_nan();
    if (!isnan(r->last_tag[member])) {
        standing->start = r->last_tag[member] + core::cost_of(m->received, m->extra) / tag->weight;
        standing->deficit = r->last_deficit[member];
    } else if (before != NULL) {
        standing->start = before->start + since / tag->weight;
    }
    standing->deficit += r->credited[member];
    if (heard_of < block->pool(m->pool)->value_since) {
        standing->start = get_float8_nan(); // what was due is in other units
        standing->deficit = 0;
    }
}

// Sets the virtual time of each lane: that at its latest row, else at the checkpoint. Returns it by
// lane.
static double* set_virtual_times(const Recount* r, const Standing* standings) {
    TenantBlock* block = r->block;
    double* times = static_cast<double*>(zeroed(block->lane_count, sizeof(double)));
    TimestampTz* latest = static_cast<TimestampTz*>(zeroed(block->lane_count, sizeof(TimestampTz)));
    for (int32 k = 0; k < block->lane_count; k++)
        latest[k] = DT_NOBEGIN;
    for (int32 i = 0; i < block->member_count; i++) {
        if (isnan(standings[i].start))
            continue;
        TimestampTz at = isnan(r->last_tag[i]) ? DT_NOBEGIN : r->last_at[i];
        int64 lane = block->lane_of(i) - block->lane(0);
        if (at >= latest[lane]) {
            latest[lane] = at;
            times[lane] = standings[i].start + standings[i].deficit / block->tag(i)->weight;
        }
    }
    for (int32 k = 0; k < block->lane_count; k++)
        block->lane(k)->now = static_cast<core::VirtualTime>(ldexp(times[k], 64));
    return times;
}

// A member's latest row may be from another lane than it stands in now: its configuration changed
// and no checkpoint has followed. Times of different lanes say nothing of each other, and then
// differ by more than turns in flight do.
constexpr double kOtherLane = 64;

static double owed_now(const PoolState* pool, const Standing* standing, double now, double weight) {
    if (isnan(standing->start))
        return 0;
    double owed = weight * (now - standing->start);
    if (pool->queue.lane_count > 1 && fabs(owed - standing->deficit) > kOtherLane)
        return standing->deficit;
    if (!standing->away || pool->catch_up == core::CatchUp::full)
        return owed;
    double most = standing->deficit;
    if (pool->catch_up == core::CatchUp::bounded)
        most = Max(most, pool->catch_up_limit);
    return Min(owed, most);
}

void count_all(Recount* r, const TenantKey* key, TenantBlock* block, const Checkpoint* checkpoint,
               bool keep_pending) {
    recount_init(r, block, checkpoint);
    r->keep_pending = keep_pending;
    r->max_ticket = checkpoint->ticket;
    memset(r->rep_wanted, true, block->rep_count);
    memset(r->member_wanted, true, block->member_count);
    for (int32 i = 0; i < block->member_count; i++)
        r->member_full[i] = find_in_checkpoint(checkpoint, block->pool(block->member(i)->pool)->id,
                                               block->tag(i)->id) == NULL;
    recount_rows(r, key);
    restore_last_turns(block, r->last_at);

    Standing* standings = static_cast<Standing*>(zeroed(block->member_count, sizeof(Standing)));
    double* deficit = static_cast<double*>(zeroed(block->member_count, sizeof(double)));
    const ZoneDays* zones = zone_days(GetCurrentTimestamp(), true);
    for (int32 i = 0; i < block->member_count; i++)
        stand(r, i, zones->now, &standings[i]);
    const double* times = set_virtual_times(r, standings);
    for (int32 i = 0; i < block->member_count; i++) {
        PoolState* pool = block->pool(block->member(i)->pool);
        double now = times[block->lane_of(i) - block->lane(0)];
        deficit[i] = member_state(block, i, zones) == core::State::turn
                         ? owed_now(pool, &standings[i], now, block->tag(i)->weight)
                         : standings[i].deficit;
    }
    start_queues(block, deficit, NULL, zones);
    level_parked(block);
}

// --- carrying counts over from a block in use ---

static void copy_member(TenantBlock* to, int32 i, TenantBlock* from, int32 j, double* deficit,
                        bool* returning) {
    MemberState* target = to->member(i);
    const MemberState* source = from->member(j);
    PoolState* old_pool = from->pool(source->pool);
    target->received = source->received;
    target->in_flight = source->in_flight;
    target->extra = source->extra;
    target->in_flight_extra = source->in_flight_extra;
    target->settled_turn = source->settled_turn;
    target->days = source->days;
    to->tag(i)->last_turn = from->tag(j)->last_turn;
    to->tag(i)->ideal_left =
        from->tag(j)->ideal_left + (to->lane_of(i)->ideal - from->lane_of(j)->ideal);
    // turns say nothing of values
    if (old_pool->by_value == to->pool(target->pool)->by_value)
        *deficit = from->queue(old_pool).deficit(j - old_pool->first_member);
    *returning = source->reason != core::State::turn;
}

static void copy_aside(TenantBlock* to, int32 i, const AsideMember* source, double* deficit) {
    MemberState* target = to->member(i);
    target->received = source->state.received;
    target->in_flight = source->state.in_flight;
    target->extra = source->state.extra;
    target->in_flight_extra = source->state.in_flight_extra;
    target->settled_turn = source->state.settled_turn;
    target->days = source->state.days;
    to->tag(i)->last_turn = source->tag.last_turn;
    to->tag(i)->ideal_left = source->tag.ideal_left;
    *deficit = source->tag.parked_deficit;
    PoolState* pool = to->pool(target->pool);
    pool->queue.turns = Max(pool->queue.turns, source->tag.last_turn);
}

// Puts aside who is not in the new block, with turns in flight.
static void put_aside(TenantBlock* to, TenantBlock* from) {
    to->aside_turns = from->aside_turns;
    for (int32 i = 0; i < from->rep_count; i++) {
        const RepState* rep = from->rep(i);
        if (rep_in_flight(&rep->days, &rep->open) && block_find_rep(to, rep->id) < 0)
            aside_add_rep(to, rep->id, &rep->days, &rep->open);
    }
    for (int32 i = 0; i < from->aside_rep_count; i++) {
        const AsideRep* rep = from->aside_rep(i);
        if (rep_in_flight(&rep->days, &rep->open) && block_find_rep(to, rep->id) < 0)
            aside_add_rep(to, rep->id, &rep->days, &rep->open);
    }
    for (int32 i = 0; i < from->member_count; i++) {
        const MemberState* member = from->member(i);
        PoolState* pool = from->pool(member->pool);
        if (member->in_flight == 0 || block_find_member_of(to, pool->id, from->tag(i)->id) >= 0)
            continue;
        AsideMember aside = {pool->id, member->in_flight, *member, *from->tag(i)};
        aside.tag.parked_deficit = from->queue(pool).deficit(i - pool->first_member);
        if (aside.tag.place != core::Place::parked)
            aside.tag.ideal_left = from->lane_of(i)->ideal;
        aside.tag.place = core::Place::parked;
        aside_add_member(to, &aside);
    }
    for (int32 i = 0; i < from->aside_member_count; i++) {
        const AsideMember* aside = from->aside_member(i);
        if (aside->state.in_flight != 0 && block_find_member_of(to, aside->pool, aside->tag.id) < 0)
            aside_add_member(to, aside);
    }
    aside_sort(to);
}

CarryScratch carry_scratch(const TenantBlock* to) {
    return {static_cast<double*>(zeroed(to->member_count, sizeof(double))),
            static_cast<bool*>(zeroed(to->member_count, sizeof(bool)))};
}

// Virtual time goes on: a lane's is that of the lane in which the first of its members was before,
// or of the pool's first one.
static void carry_time(TenantBlock* to, PoolState* pool, TenantBlock* from, PoolState* old) {
    for (int32 k = pool->queue.lane_count - 1; k >= 0; k--) {
        core::Lane* lane = to->lane(pool->first_lane + k);
        lane->now = from->lane(old->first_lane)->now;
        lane->ideal = from->lane(old->first_lane)->ideal;
    }
    pool->queue.turns = old->queue.turns;
    if (pool->queue.lane_count == 1 && old->queue.lane_count == 1)
        return;
    for (int32 i = pool->first_member + pool->queue.member_count - 1; i >= pool->first_member;
         i--) {
        int32 j = block_find_member_of(from, pool->id, to->tag(i)->id);
        if (j < 0)
            continue;
        to->lane_of(i)->now = from->lane_of(j)->now;
        to->lane_of(i)->ideal = from->lane_of(j)->ideal;
    }
}

// Takes over the counts of all that `from` knows; what it does not know stays as counted.
void carry_over(TenantBlock* to, TenantBlock* from, const CarryScratch* scratch,
                const ZoneDays* zones) {
    double* deficit = scratch->deficit;
    bool* returning = scratch->returning;
    for (int32 i = 0; i < to->rep_count; i++) {
        const DayCounts* days = block_rep_days(from, to->rep(i)->id);
        if (days != NULL) {
            to->rep(i)->days = *days;
            to->rep(i)->open = *block_rep_open(from, to->rep(i)->id);
        }
        if (const RepState* rep = rep_of(from, to->rep(i)->id))
            presence_carry(&to->rep(i)->presence, &rep->presence);
    }
    for (int32 p = 0; p < to->pool_count; p++) {
        PoolState* pool = to->pool(p);
        int32 old = block_find_pool(from, pool->id);
        if (old >= 0)
            carry_time(to, pool, from, from->pool(old));
        for (int32 k = 0; k < pool->queue.member_count; k++) {
            int32 i = pool->first_member + k;
            int32 j = old < 0 ? -1 : block_find_member(from, old, to->tag(i)->id);
            const AsideMember* aside =
                j >= 0 ? NULL : aside_find_member(from, pool->id, to->tag(i)->id);
            if (j >= 0) {
                copy_member(to, i, from, j, &deficit[i], &returning[i]);
                continue;
            }
            if (aside != NULL)
                copy_aside(to, i, aside, &deficit[i]);
            returning[i] = old >= 0; // the catch-up policy says what a joiner is owed
        }
    }
    put_aside(to, from);
    start_queues(to, deficit, returning, zones);
}

// Counts reps and members that `from` does not know from the record.
void count_new(Recount* r, const TenantKey* key, TenantBlock* block, TenantBlock* from,
               const Checkpoint* none, bool keep_pending) {
    recount_init(r, block, none);
    r->keep_pending = keep_pending;
    r->full = true;
    for (int32 i = 0; i < block->rep_count; i++)
        r->rep_wanted[i] = block_rep_days(from, block->rep(i)->id) == NULL;
    for (int32 i = 0; i < block->member_count; i++) {
        int32 pool = block->pool(block->member(i)->pool)->id;
        r->member_wanted[i] = block_member_state(from, pool, block->tag(i)->id) == NULL;
    }
    recount_rows(r, key);
    restore_last_turns(block, r->last_at);
}

void count_open(const TenantKey* key, TenantBlock* block, const bool* reps) {
    Recount r;
    Checkpoint none = {};
    recount_init(&r, block, &none);
    r.open_only = true;
    memcpy(r.rep_wanted, reps, block->rep_count);
    recount_rows(&r, key);
}
