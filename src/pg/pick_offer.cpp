// Offering a lead of a pool with the mode broadcast: to all members who could be given it now. No
// turn is taken. The tenant's lock is held.
#include "pick_site.h"

static int64 offered_to[kMostOffered];

// Would the lead be this member's, if it were the pool's next?
static bool may_take(Site* site, int32 member) {
    const MemberState* m = site->block->member(member);
    look_beside(site, m->rep, member);
    if (site->beside != NULL && m->reason == core::State::turn &&
        member_state(site->block, member, site->zones) != core::State::turn)
        member_refresh(site->block, member, site->zones);
    const RepState* rep = site->block->rep(m->rep);
    return m->reason == core::State::turn && !lacks_skills(site, m->rep) &&
           !gave_lead_up(site->request, rep->id) && !lacks_ref(rep, site->request->ref);
}

// Tells what became of each member: of up to 16 by name, of more by their number. Who may take it,
// but comes after the last that is told, is as one whose turn is later.
static void explain_offer(Site* site, PoolState* pool, int32 first) {
    int32 members = pool->queue.member_count;
    bool told = leadroute_explain || site->visit != NULL;
    core::Tried* tried = told ? explain_start(site->explanation, pool->id, members) : NULL;
    core::Candidate candidate = {};
    if (site->visit != NULL && members == 0)
        site->visit(site->context, pool->id, pool_measure(site, pool), &candidate);
    for (int32 k = 0; told && k < members; k++) {
        describe_member(site, &candidate, pool->first_member + k, -1);
        if (candidate.state == core::State::turn &&
            (k + members - first) % members <= site->offer_end)
            candidate.state = core::State::offered;
        if (site->visit != NULL)
            site->visit(site->context, pool->id, pool_measure(site, pool), &candidate);
        if (tried != NULL && members <= core::kMaxCandidates)
            tried->candidates[tried->candidate_count++] = candidate;
        else if (tried != NULL)
            tried->others[static_cast<int>(candidate.state)]++;
    }
}

bool offer_to_members(Site* site, PoolState* pool, Pick* result) {
    int32 members = pool->queue.member_count;
    pool_recheck(site, pool);
    // where there are more than can be named, they begin anywhere
    int32 first = members > kMostOffered ? static_cast<int32>(site->request->now % members) : 0;
    result->offered_count = 0;
    site->offer_end = members;
    for (int32 i = 0; i < members && result->offered_count < kMostOffered; i++) {
        int32 member = pool->first_member + (first + i) % members;
        if (!may_take(site, member))
            continue;
        offered_to[result->offered_count++] = site->block->tag(member)->id;
        if (result->offered_count == kMostOffered)
            site->offer_end = i;
    }
    result->offered_to = offered_to;
    result->offer_window = pool->offer_window;
    explain_offer(site, pool, first);
    return result->offered_count > 0;
}
