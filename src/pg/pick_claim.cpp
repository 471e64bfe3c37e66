// Charging one given member; see pick_claim.h. Between taking and releasing the lock all is
// arithmetic on the block.
#include "pick_claim.h"
#include "availability.h"
#include "pick_site.h"
#include "transaction.h"

static ClaimBar bar_with(ClaimPick* out, ClaimBar bar, int32 used, int32 cap) {
    out->used = used;
    out->cap = cap;
    return bar;
}

// As member_state(), but for hours and absences.
static ClaimBar bar_of(Site* site, int32 member, ClaimPick* out) {
    TenantBlock* block = site->block;
    const MemberState* m = block->member(member);
    const RepState* rep = block->rep(m->rep);
    if (rep->paused)
        return ClaimBar::rep_paused;
    if (m->paused)
        return ClaimBar::member_paused;
    if (block->pool(m->pool)->presence_required && !rep_present(rep, site->zones->now))
        return ClaimBar::signed_out;
    if (lacks_skills(site, m->rep))
        return ClaimBar::unskilled;
    if (lacks_ref(rep, site->request->ref))
        return ClaimBar::no_ref;
    if (rep->open_cap != kNoCap && rep->open.used >= rep->open_cap)
        return bar_with(out, ClaimBar::open_cap, rep->open.used, rep->open_cap);
    DateADT today = site->zones->day[rep->zone];
    int32 used = days_used(&rep->days, today);
    if (rep->cap != kNoCap && used >= rep->cap)
        return bar_with(out, ClaimBar::rep_cap, used, rep->cap);
    used = days_used(&m->days, today);
    if (m->cap != kNoCap && used >= m->cap)
        return bar_with(out, ClaimBar::member_cap, used, m->cap);
    return ClaimBar::none;
}

// The member of the request, or -1 with the bar.
static int32 find_member(Site* site, ClaimPick* out) {
    const PickRequest* request = site->request;
    out->bar = ClaimBar::no_rep;
    if (block_find_rep(site->block, request->rep) < 0)
        return -1;
    out->bar = ClaimBar::no_pool;
    int32 pool = block_find_pool(site->block, request->pool);
    if (pool < 0)
        return -1;
    int32 member = block_find_member(site->block, pool, request->rep);
    out->bar = member < 0 ? ClaimBar::no_member : ClaimBar::none;
    return member;
}

// The claim at hand; an Action has no room for it.
static ClaimPick* claimed;

static void charge_claim(Site* site, Pick* result) {
    TenantBlock* block = site->block;
    int32 member = find_member(site, claimed);
    if (member < 0)
        return;
    filter_prepare(site);
    look_beside(site, block->member(member)->rep, member);
    member_refresh(block, member, site->zones);
    claimed->bar = bar_of(site, member, claimed);
    if (claimed->bar != ClaimBar::none)
        return;
    PoolState* pool = block->pool(block->member(member)->pool);
    fill_pick(site, result, member, block->member(member)->rep);
    site->extra = pool->by_value ? lead_extra(site, pool) : 0;
    // a turn like any other of the pool, whoever's it would have been: only such a one is given
    // back in full, and known again from the record
    block_charge_at(block, block->member(member)->rep, member, result->day, 1, site->zones,
                    site->extra);
    result->deficit = block->queue(pool).deficit(member - pool->first_member);
    result->tag = block_tag(block, member);
    result->extra = site->extra;
    settle_draft(site, result);
}

void pick_claim(const PickRequest* request, ClaimPick* result) {
    Site site = {};
    site.request = request;
    result->used = result->cap = 0;
    claimed = result;
    pick_act(request->key, &site, charge_claim, &result->pick);
    if (result->pick.memory_full)
        result->bar = ClaimBar::memory_full;
}

static void ask_claim(Site* site, Pick* result) {
    (void)result;
    int32 member = find_member(site, claimed);
    if (member < 0)
        return;
    filter_prepare(site);
    look_beside(site, site->block->member(member)->rep, member);
    claimed->bar = bar_of(site, member, claimed);
}

ClaimBar claim_bar(const PickRequest* request) {
    Site site = {};
    ClaimPick asked = {};
    site.request = request;
    claimed = &asked;
    pick_act(request->key, &site, ask_claim, &asked.pick);
    return asked.bar;
}
