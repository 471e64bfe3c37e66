// Layout, eligibility and charging of one tenant's block; see block.h.
#include "block.h"
#include "availability.h"

static uint32 place(uint32* end, Size bytes) {
    uint32 offset = (uint32)TYPEALIGN(kBlockAlign, *end);
    *end = offset + (uint32)bytes;
    return offset;
}

static uint32 lay_out(TenantBlock* block, const BlockRoom* room) {
    uint32 end = sizeof(TenantBlock);
    block->pools = place(&end, sizeof(PoolState) * room->pools);
    block->lanes = place(&end, sizeof(core::Lane) * room->lanes);
    block->spots = place(&end, sizeof(core::Spot) * room->lanes);
    block->reps = place(&end, sizeof(RepState) * room->reps);
    block->members = place(&end, sizeof(MemberState) * room->members);
    block->tags = place(&end, sizeof(core::Member) * room->members);
    block->ready = place(&end, sizeof(int32) * room->members);
    block->waiting = place(&end, sizeof(int32) * room->members);
    block->by_rep = place(&end, sizeof(int32) * room->members);
    block->skills = place(&end, sizeof(SkillState) * room->skills);
    block->holders = place(&end, sizeof(SkillHolder) * room->holders);
    block->skill_names = place(&end, room->skill_name_bytes);
    block->shifts = place(&end, sizeof(ShiftState) * room->shifts);
    block->windows = place(&end, sizeof(core::Window) * room->windows);
    block->policies = place(&end, sizeof(SlaPolicy) * room->policies);
    block->policy_shifts = place(&end, sizeof(PolicyShift) * room->policy_shifts);
    block->rule_policies = place(&end, sizeof(RulePolicy) * room->rule_policies);
    block->aside_reps = place(&end, sizeof(AsideRep) * room->aside_reps);
    block->aside_members = place(&end, sizeof(AsideMember) * room->aside_members);
    block->aside_rep_room = room->aside_reps;
    block->aside_member_room = room->aside_members;
    block->size = end;
    return end;
}

BlockRoom block_room(const TenantBlock* block) {
    return {block->pool_count,         block->rep_count,         block->member_count,
            block->aside_rep_room,     block->aside_member_room, block->lane_count,
            block->skill_count,        block->holder_count,      block->skill_name_bytes,
            block->shift_count,        block->window_count,      block->policy_count,
            block->policy_shift_count, block->rule_policy_count};
}

Size block_size(const BlockRoom* room) {
    TenantBlock layout;
    return lay_out(&layout, room);
}

void block_format(TenantBlock* block, const BlockRoom* room) {
    memset(static_cast<void*>(block), 0, block_size(room));
    lay_out(block, room);
    block->pool_count = room->pools;
    block->rep_count = room->reps;
    block->member_count = room->members;
    block->lane_count = room->lanes;
    block->skill_count = room->skills;
    block->holder_count = room->holders;
    block->skill_name_bytes = room->skill_name_bytes;
    block->shift_count = room->shifts;
    block->window_count = room->windows;
    block->policy_count = room->policies;
    block->policy_shift_count = room->policy_shifts;
    block->rule_policy_count = room->rule_policies;
}

void block_copy_wider(TenantBlock* to, TenantBlock* from, int32 aside_reps, int32 aside_members) {
    memcpy(static_cast<void*>(to), from, from->aside_reps);
    BlockRoom room = block_room(from);
    room.aside_reps += aside_reps;
    room.aside_members += aside_members;
    lay_out(to, &room);
    memcpy(static_cast<void*>(to->aside_rep(0)), from->aside_rep(0),
           sizeof(AsideRep) * from->aside_rep_count);
    memcpy(static_cast<void*>(to->aside_member(0)), from->aside_member(0),
           sizeof(AsideMember) * from->aside_member_count);
}

// The place of `id` among those from low to before end, which stand in the order of id_at(place);
// -1 if it is not there.
template <typename IdAt> static int32 find(int32 low, int32 end, int64 id, IdAt id_at) {
    while (low < end) {
        int32 middle = low + (end - low) / 2;
        int64 found = id_at(middle);
        if (found == id)
            return middle;
        if (found < id)
            low = middle + 1;
        else
            end = middle;
    }
    return -1;
}

int32 block_find_pool(TenantBlock* block, int32 id) {
    return find(0, block->pool_count, id, [=](int32 at) { return block->pool(at)->id; });
}

int32 block_find_rep(TenantBlock* block, int64 id) {
    return find(0, block->rep_count, id, [=](int32 at) { return block->rep(at)->id; });
}

int32 block_find_member(TenantBlock* block, int32 pool, int64 rep) {
    PoolState* p = block->pool(pool);
    return find(p->first_member, p->first_member + p->queue.member_count, rep,
                [=](int32 at) { return block->tag(at)->id; });
}

int32 block_find_member_of(TenantBlock* block, int32 pool, int64 rep) {
    int32 p = block_find_pool(block, pool);
    return p < 0 ? -1 : block_find_member(block, p, rep);
}

DayCounts* block_rep_days(TenantBlock* block, int64 rep, bool aside) {
    int32 i = block_find_rep(block, rep);
    if (i >= 0)
        return &block->rep(i)->days;
    AsideRep* found = aside ? aside_find_rep(block, rep) : NULL;
    return found == NULL ? NULL : &found->days;
}

OpenCount* block_rep_open(TenantBlock* block, int64 rep, bool aside) {
    int32 i = block_find_rep(block, rep);
    if (i >= 0)
        return &block->rep(i)->open;
    AsideRep* found = aside ? aside_find_rep(block, rep) : NULL;
    return found == NULL ? NULL : &found->open;
}

MemberState* block_member_state(TenantBlock* block, int32 pool, int64 rep, bool aside) {
    int32 i = block_find_member_of(block, pool, rep);
    if (i >= 0)
        return block->member(i);
    AsideMember* found = aside ? aside_find_member(block, pool, rep) : NULL;
    return found == NULL ? NULL : &found->state;
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
    core::State availability = rep_availability(block, rep, zones->now);
    if (availability != core::State::turn)
        return availability;
    if (block->pool(m->pool)->presence_required && !rep_present(rep, zones->now))
        return core::State::signed_out;
    if (rep->open_cap != kNoCap && rep->open.used >= rep->open_cap)
        return core::State::open_cap;
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
    if (!pool_steady(pool, zones->now))
        pool_unsettle(pool);
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
    const MemberState* m = block->member(member);
    core::VirtualTime moved = core::stretch(tag->step, m->received, m->extra);
    return ldexp((double)(tag->start - moved), -64);
}

void block_charge_at(TenantBlock* block, int32 rep, int32 member, DateADT day, int32 turns,
                     const ZoneDays* zones, int64 extra) {
    if (member >= 0) {
        MemberState* m = block->member(member);
        PoolState* p = block->pool(m->pool);
        core::FairQueue queue = block->queue(p);
        m->received += turns;
        m->in_flight += turns;
        m->extra += extra;
        m->in_flight_extra += extra;
        days_add(&m->days, day, turns, turns);
        if (turns < 0 && m->in_flight == 0)
            block->tag(member)->last_turn = m->settled_turn;
        if (turns == 1 && m->reason == core::State::turn)
            queue.charge(member - p->first_member, extra);
        else
            queue.give_back(member - p->first_member, -turns, -extra);
    }
    days_add(&block->rep(rep)->days, day, turns, turns);
    rep_open_add(block, rep, turns, turns);
    if (block->rep(rep)->cap != kNoCap || block->rep(rep)->open_cap != kNoCap)
        rep_refresh(block, rep, zones);
    else if (member >= 0)
        member_refresh(block, member, zones);
}

// One aside has no place in its pool's queue. Its own new turns wait for that; but of a turn that
// it had as a member it is owed again what it paid for it.
static void charge_aside(TenantBlock* block, AsideMember* m, DateADT day, int32 turns,
                         int64 extra) {
    m->state.received += turns;
    m->state.in_flight += turns;
    m->state.extra += extra;
    m->state.in_flight_extra += extra;
    days_add(&m->state.days, day, turns, turns);
    int32 pool = block_find_pool(block, m->pool);
    if (turns > 0) {
        m->tag.last_turn = ++(pool < 0 ? block->aside_turns : block->pool(pool)->queue.turns);
        return;
    }
    int64 paid = Min(m->paid, -turns);
    m->paid -= paid;
    if (pool >= 0)
        m->tag.parked_deficit +=
            block->queue(block->pool(pool))
                .refund(m->tag.lane, m->tag.weight, paid, paid == 0 ? 0 : extra * paid / turns);
    if (m->state.in_flight == 0)
        m->tag.last_turn = m->state.settled_turn;
}

void block_charge(TenantBlock* block, int32 pool, int64 rep, DateADT day, int32 turns,
                  const ZoneDays* zones, int64 extra) {
    int32 r = block_find_rep(block, rep);
    int32 i = pool == 0 ? -1 : block_find_member_of(block, pool, rep);
    AsideMember* aside = pool == 0 || i >= 0 ? NULL : aside_find_member(block, pool, rep);
    if (aside != NULL)
        charge_aside(block, aside, day, turns, extra);
    if (r >= 0)
        block_charge_at(block, r, i, day, turns, zones, extra);
    else if (AsideRep* other = aside_find_rep(block, rep)) {
        days_add(&other->days, day, turns, turns);
        other->open.used += turns;
        other->open.in_flight += turns;
    }
}

void block_settle(TenantBlock* block, int32 pool, int64 rep, DateADT day, int32 turns,
                  int64 extra) {
    int32 r = block_find_rep(block, rep);
    AsideRep* other = r >= 0 ? NULL : aside_find_rep(block, rep);
    if (r >= 0 || other != NULL) {
        days_add(r >= 0 ? &block->rep(r)->days : &other->days, day, 0, -turns);
        (r >= 0 ? &block->rep(r)->open : &other->open)->in_flight -= turns;
    }
    if (pool == 0)
        return;
    int32 i = block_find_member_of(block, pool, rep);
    AsideMember* aside = i >= 0 ? NULL : aside_find_member(block, pool, rep);
    if (i < 0 && aside == NULL)
        return;
    MemberState* m = aside != NULL ? &aside->state : block->member(i);
    m->in_flight -= turns;
    m->in_flight_extra -= extra;
    days_add(&m->days, day, 0, -turns);
    if (m->in_flight == 0)
        m->settled_turn = aside != NULL ? aside->tag.last_turn : block->tag(i)->last_turn;
    if (aside != NULL)
        aside->paid = Min(aside->paid, m->in_flight);
}
