// Which members of a pool may take a lead that not all may take: those with the skills it needs and
// a ref that its owner column can hold, who have not given it up. The tenant's lock is held, but
// where said.
#include "pick_site.h"
#include "transaction.h"

static int32 pool_lacking(const PoolState* pool, RefNeed need) {
    if (need == RefNeed::none)
        return 0;
    return need == RefNeed::text ? pool->without_ref : pool->without_uuid;
}

static bool has_avoided(const Site* site, const PoolState* pool) {
    const PickRequest* request = site->request;
    if (request->avoid_count == 0 || pool->queue.member_count == 0)
        return false;
    int32 number = site->block->member(pool->first_member)->pool;
    for (int32 i = 0; i < request->avoid_count; i++)
        if (block_find_member(site->block, number, request->avoid[i]) >= 0)
            return true;
    return false;
}

bool takes_filter(const Site* site, const PoolState* pool) {
    return site->skills != NULL || pool_lacking(pool, site->request->ref) > 0 ||
           has_avoided(site, pool);
}

void filter_prepare(Site* site) {
    static SkillFilter found;
    site->skills = NULL;
    if (site->request->needs == NULL)
        return;
    skills_find(site->block, site->request->needs, &found);
    site->skills = &found;
}

static bool is_out(const Site* site, int32 k) {
    for (int32 i = 0; i < site->gave_up; i++)
        if (site->filtered[i] == k)
            return true;
    return false;
}

bool leave_out(Site* site, PoolState* pool) {
    const PickRequest* request = site->request;
    site->filtered_count = site->gave_up = 0;
    if (site->skills != NULL || pool_lacking(pool, request->ref) > 0)
        return false;
    core::FairQueue queue = site->block->queue(pool);
    int32 number = site->block->member(pool->first_member)->pool;
    for (int32 i = 0; i < request->avoid_count; i++) {
        int32 member = block_find_member(site->block, number, request->avoid[i]);
        if (member < 0 || site->block->member(member)->reason != core::State::turn ||
            is_out(site, member - pool->first_member))
            continue;
        queue.park(member - pool->first_member);
        site->filtered[site->gave_up++] = member - pool->first_member;
    }
    return true;
}

// What they are owed is what it was: they are due nothing for this lead.
void leave_in(Site* site, PoolState* pool) {
    core::FairQueue queue = site->block->queue(pool);
    for (int32 i = 0; i < site->gave_up; i++)
        queue.join(site->filtered[i], queue.deficit(site->filtered[i]));
    site->gave_up = 0;
}

// One with the skills; *skilled counts the active ones.
static void filter_member(Site* site, int32 first_member, int32 member, int32* skilled) {
    const MemberState* m = site->block->member(member);
    if (m->reason != core::State::turn)
        return;
    (*skilled)++;
    const RepState* rep = site->block->rep(m->rep);
    if (gave_lead_up(site->request, rep->id))
        site->gave_up++;
    else if (!lacks_ref(rep, site->request->ref))
        site->filtered[site->filtered_count++] = member - first_member;
}

static void filter_all(Site* site, const PoolState* pool, int32* skilled) {
    for (int32 k = 0; k < pool->queue.member_count; k++) {
        int32 member = pool->first_member + k;
        if (!lacks_skills(site, site->block->member(member)->rep))
            filter_member(site, pool->first_member, member, skilled);
    }
}

// By way of the skill that the fewest have.
static void filter_holders(Site* site, const PoolState* pool, const SkillState* rarest,
                           int32* skilled) {
    TenantBlock* block = site->block;
    int32 number = block->member(pool->first_member)->pool;
    for (int32 i = 0; i < rarest->holder_count; i++) {
        int32 rep = block->holder(rarest->first_holder + i)->rep;
        if (lacks_skills(site, rep))
            continue;
        int32 member = block_find_member(block, number, block->rep(rep)->id);
        if (member >= 0)
            filter_member(site, pool->first_member, member, skilled);
    }
}

void filter_members(Site* site, PoolState* pool) {
    int32 skilled = 0;
    site->filtered_count = site->gave_up = 0;
    const SkillFilter* skills = site->skills;
    const SkillState* rarest =
        skills == NULL || skills->nobody ? NULL : site->block->skill(skills->skill[skills->rarest]);
    if (rarest != NULL && rarest->holder_count < pool->queue.member_count)
        filter_holders(site, pool, rarest, &skilled);
    else if (skills == NULL || !skills->nobody)
        filter_all(site, pool, &skilled);
    site->unskilled = pool->queue.active_count - skilled;
}

static bool block_rep_meets(TenantBlock* block, int64 rep, const Needs* needs) {
    SkillFilter filter;
    skills_find(block, needs, &filter);
    int32 i = block_find_rep(block, rep);
    return i >= 0 && rep_has_skills(block, i, &filter);
}

// Takes the lock itself.
bool pick_has_skills(const TenantKey* key, int64 rep, const Needs* needs) {
    if (config_is_draft(key->tenant))
        return block_rep_meets(tenant_draft(key)->block, rep, needs);
    for (;;) {
        CHECK_FOR_INTERRUPTS();
        TenantSlot* slot = tenant_ready(key);
        if (slot == NULL)
            return true; // shared memory is full: nothing is known that speaks against the rep
        bool meets = true;
        LWLockAcquire(slot_lock(slot), LW_SHARED);
        bool usable = tenant_usable(slot, key);
        if (usable)
            meets = block_rep_meets(slot_block(slot), rep, needs);
        LWLockRelease(slot_lock(slot));
        if (usable)
            return meets;
    }
}
