// Why a member was picked and the others were not; the tenant's lock is held.
#include "pick_site.h"

core::Tried* explain_start(core::Explanation* explanation, int32 pool, int32 members) {
    if (explanation->tried_count == core::kMaxTried)
        return NULL;
    core::Tried* tried = &explanation->tried[explanation->tried_count++];
    tried->pool = pool;
    tried->known = false;
    tried->members = members;
    tried->measure = core::Measure::turns;
    tried->candidate_count = 0;
    memset(tried->others, 0, sizeof(tried->others));
    return tried;
}

void describe_member(Site* site, core::Candidate* c, int32 member, int32 picked) {
    TenantBlock* block = site->block;
    const MemberState* m = block->member(member);
    const RepState* rep = block->rep(m->rep);
    PoolState* pool = block->pool(m->pool);
    memset(c, 0, sizeof(*c));
    c->rep = rep->id;
    c->state = m->reason;
    if (member == picked)
        c->state = core::State::picked;
    else if (m->reason == core::State::turn && lacks_skills(site, m->rep))
        c->state = core::State::unskilled;
    else if (m->reason == core::State::turn && gave_lead_up(site->request, rep->id))
        c->state = core::State::gave_up;
    else if (m->reason == core::State::turn && lacks_ref(rep, site->request->ref))
        c->state = core::State::no_ref;
    else if (m->reason == core::State::turn && of_later_tier(site, pool, member, picked))
        c->state = core::State::lower_tier;
    // what is due is told as it stands now, anything else as it was when it decided
    core::Measure measure = pool_measure(site, pool);
    bool due = measure == core::Measure::turns || measure == core::Measure::value;
    c->measure = member == picked && !due ? site->taken_at : member_measure(site, pool, member);
    DateADT today = site->zones->day[rep->zone];
    if (c->state == core::State::rep_cap) {
        c->used = days_used(&rep->days, today);
        c->cap = rep->cap;
    } else if (c->state == core::State::member_cap) {
        c->used = days_used(&m->days, today);
        c->cap = m->cap;
    } else if (c->state == core::State::open_cap) {
        c->used = rep->open.used;
        c->cap = rep->open_cap;
    }
}

static void explain_member(Site* site, core::Tried* tried, int32 member, int32 picked) {
    describe_member(site, &tried->candidates[tried->candidate_count++], member, picked);
}

static void visit_members(Site* site, PoolState* pool, int32 picked) {
    core::Candidate candidate = {};
    if (pool->queue.member_count == 0)
        site->visit(site->context, pool->id, pool_measure(site, pool), &candidate);
    for (int32 k = 0; k < pool->queue.member_count; k++) {
        describe_member(site, &candidate, pool->first_member + k, picked);
        site->visit(site->context, pool->id, pool_measure(site, pool), &candidate);
    }
}

// The next of those who may take this lead; leaves them out of the filter.
static int32 next_filtered(Site* site, PoolState* pool, int32* next, int32 max) {
    int32 count = 0;
    while (count < max) {
        int32 k = next_member(site, pool);
        if (k < 0)
            break;
        next[count++] = k;
        int32 at = 0;
        while (site->filtered[at] != k)
            at++;
        site->filtered[at] = site->filtered[--site->filtered_count];
    }
    return count;
}

// Up to 16 members each by name; of more the pick, the next three, and the rest by reason.
void explain_pool(Site* site, int32 pool_index, int32 picked) {
    if (site->visit != NULL)
        visit_members(site, site->block->pool(pool_index), picked);
    else if (!leadroute_explain)
        return;
    TenantBlock* block = site->block;
    PoolState* pool = block->pool(pool_index);
    int32 members = pool->queue.member_count;
    core::Tried* tried = explain_start(site->explanation, pool->id, members);
    if (tried == NULL)
        return;
    tried->measure = pool_measure(site, pool);
    if (members <= core::kMaxCandidates) {
        for (int32 k = 0; k < members; k++)
            explain_member(site, tried, pool->first_member + k, picked);
        return;
    }
    int32 next[5];
    int32 active = pool->queue.active_count;
    int32 later = later_tier_count(site, pool, picked);
    int32 turn = active;
    if (site->filter) {
        bool parked = picked >= 0 && block->member(picked)->reason != core::State::turn;
        turn = site->filtered_count - (parked ? 1 : 0);
        tried->others[static_cast<int>(core::State::unskilled)] = site->unskilled;
        tried->others[static_cast<int>(core::State::gave_up)] = site->gave_up;
        tried->others[static_cast<int>(core::State::no_ref)] =
            active - turn - site->unskilled - site->gave_up;
    }
    if (!site->filter)
        tried->others[static_cast<int>(core::State::gave_up)] = site->gave_up;
    turn -= later;
    int32 count =
        site->filter ? next_filtered(site, pool, next, 5) : upcoming_members(site, pool, next, 5);
    if (picked >= 0) {
        explain_member(site, tried, picked, picked);
        if (block->member(picked)->reason == core::State::turn)
            turn--;
    }
    for (int32 k = 0; k < count && tried->candidate_count < 4; k++) {
        if (pool->first_member + next[k] == picked)
            continue;
        int32 member = pool->first_member + next[k];
        explain_member(site, tried, member, picked);
        (of_later_tier(site, pool, member, picked) ? later : turn)--;
    }
    for (int s = 0; s < core::kStates; s++)
        tried->others[s] += pool->parked[s];
    if (picked >= 0 && block->member(picked)->reason != core::State::turn)
        tried->others[static_cast<int>(block->member(picked)->reason)]--;
    tried->others[static_cast<int>(core::State::turn)] = turn;
    tried->others[static_cast<int>(core::State::lower_tier)] = later;
}
