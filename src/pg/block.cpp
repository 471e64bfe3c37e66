// Layout, eligibility and charging of one tenant's block; see block.h.
#include "block.h"

static uint32 place(uint32* end, Size bytes) {
    uint32 offset = (uint32)TYPEALIGN(kBlockAlign, *end);
    *end = offset + (uint32)bytes;
    return offset;
}

static uint32 lay_out(TenantBlock* block, int32 pools, int32 reps, int32 members) {
    uint32 end = sizeof(TenantBlock);
    block->pools = place(&end, sizeof(PoolState) * pools);
    block->reps = place(&end, sizeof(RepState) * reps);
    block->members = place(&end, sizeof(MemberState) * members);
    block->tags = place(&end, sizeof(core::Member) * members);
    block->ready = place(&end, sizeof(int32) * members);
    block->waiting = place(&end, sizeof(int32) * members);
    block->by_rep = place(&end, sizeof(int32) * members);
    return end;
}

Size block_size(int32 pools, int32 reps, int32 members) {
    TenantBlock layout;
    return lay_out(&layout, pools, reps, members);
}

void block_format(TenantBlock* block, int32 pools, int32 reps, int32 members) {
    Size size = block_size(pools, reps, members);
    memset(static_cast<void*>(block), 0, size);
    lay_out(block, pools, reps, members);
    block->pool_count = pools;
    block->rep_count = reps;
    block->member_count = members;
    block->size = size;
}

int32 block_find_pool(TenantBlock* block, int32 id) {
    int32 low = 0, high = block->pool_count - 1;
    while (low <= high) {
        int32 middle = low + (high - low) / 2;
        int32 found = block->pool(middle)->id;
        if (found == id)
            return middle;
        if (found < id)
            low = middle + 1;
        else
            high = middle - 1;
    }
    return -1;
}

int32 block_find_rep(TenantBlock* block, int64 id) {
    int32 low = 0, high = block->rep_count - 1;
    while (low <= high) {
        int32 middle = low + (high - low) / 2;
        int64 found = block->rep(middle)->id;
        if (found == id)
            return middle;
        if (found < id)
            low = middle + 1;
        else
            high = middle - 1;
    }
    return -1;
}

int32 block_find_member(TenantBlock* block, int32 pool, int64 rep) {
    PoolState* p = block->pool(pool);
    int32 low = p->first_member, high = low + p->queue.member_count - 1;
    while (low <= high) {
        int32 middle = low + (high - low) / 2;
        int64 found = block->tag(middle)->id;
        if (found == rep)
            return middle;
        if (found < rep)
            low = middle + 1;
        else
            high = middle - 1;
    }
    return -1;
}

int32 days_used(const DayCounts* days, DateADT day) {
    for (int32 i = 0; i < days->count; i++)
        if (days->slot[i].day == day)
            return days->slot[i].used;
    return day < days->known_from ? PG_INT32_MAX : 0;
}

void days_add(DayCounts* days, DateADT day, int32 used, int32 in_flight) {
    int32 oldest = 0;
    for (int32 i = 0; i < days->count; i++) {
        if (days->slot[i].day == day) {
            days->slot[i].used += used;
            days->slot[i].in_flight += in_flight;
            return;
        }
        if (days->slot[i].day < days->slot[oldest].day)
            oldest = i;
    }
    if (day < days->known_from)
        return;
    int32 slot = days->count;
    if (slot < kDaySlots) {
        days->count++;
    } else {
        if (day < days->slot[oldest].day) {
            // older than all that is kept: stays unknown rather than wrong
            days->known_from = day + 1;
            return;
        }
        days->known_from = days->slot[oldest].day + 1;
        slot = oldest;
    }
    days->slot[slot] = {day, used, in_flight};
}

core::State member_state(TenantBlock* block, int32 member, const ZoneDays* zones) {
    MemberState* m = block->member(member);
    RepState* rep = block->rep(m->rep);
    if (rep->paused)
        return core::State::rep_paused;
    if (m->paused)
        return core::State::member_paused;
    if (rep->cap == kNoCap && m->cap == kNoCap)
        return core::State::turn;
    if (!zone_known(zones, rep->zone))
        return m->reason; // cannot tell in this callback: stays as it is
    DateADT today = zones->day[rep->zone];
    if (rep->cap != kNoCap && days_used(&rep->days, today) >= rep->cap)
        return core::State::rep_cap;
    if (m->cap != kNoCap && days_used(&m->days, today) >= m->cap)
        return core::State::member_cap;
    return core::State::turn;
}

void member_refresh(TenantBlock* block, int32 member, const ZoneDays* zones) {
    MemberState* m = block->member(member);
    core::State state = member_state(block, member, zones);
    if (state == m->reason)
        return;
    PoolState* pool = block->pool(m->pool);
    core::FairQueue queue = block->queue(pool);
    int32 i = member - pool->first_member;
    if (m->reason == core::State::turn)
        queue.park(i);
    else
        pool->parked[static_cast<int>(m->reason)]--;
    if (state == core::State::turn)
        queue.join(i, queue.owed(i, pool->catch_up, pool->catch_up_limit));
    else
        pool->parked[static_cast<int>(state)]++;
    m->reason = state;
}

void rep_refresh(TenantBlock* block, int32 rep, const ZoneDays* zones) {
    RepState* r = block->rep(rep);
    for (int32 i = 0; i < r->member_count; i++)
        member_refresh(block, *block->member_of_rep(r->first_member + i), zones);
}

double block_tag(TenantBlock* block, int32 member) {
    const core::Member* tag = block->tag(member);
    core::VirtualTime moved = tag->step * block->member(member)->received;
    return ldexp((double)(tag->start - moved), -64);
}

void block_charge(TenantBlock* block, int32 pool, int64 rep, DateADT day, int32 turns,
                  const ZoneDays* zones) {
    int32 r = block_find_rep(block, rep);
    if (r < 0)
        return;
    int32 i = pool < 0 ? -1 : block_find_member(block, pool, rep);
    if (i >= 0) {
        MemberState* m = block->member(i);
        PoolState* p = block->pool(pool);
        core::FairQueue queue = block->queue(p);
        m->received += turns;
        m->in_flight += turns;
        days_add(&m->days, day, turns, turns);
        if (turns < 0 && m->in_flight == 0)
            block->tag(i)->last_turn = m->settled_turn;
        if (turns == 1 && m->reason == core::State::turn)
            queue.charge(i - p->first_member);
        else
            queue.give_back(i - p->first_member, -turns);
    }
    days_add(&block->rep(r)->days, day, turns, turns);
    if (block->rep(r)->cap != kNoCap)
        rep_refresh(block, r, zones);
    else if (i >= 0)
        member_refresh(block, i, zones);
}

void block_settle(TenantBlock* block, int32 pool, int64 rep, DateADT day, int32 turns) {
    int32 r = block_find_rep(block, rep);
    if (r < 0)
        return;
    days_add(&block->rep(r)->days, day, 0, -turns);
    int32 i = pool < 0 ? -1 : block_find_member(block, pool, rep);
    if (i >= 0) {
        block->member(i)->in_flight -= turns;
        if (block->member(i)->in_flight == 0)
            block->member(i)->settled_turn = block->tag(i)->last_turn;
        days_add(&block->member(i)->days, day, 0, -turns);
    }
}
