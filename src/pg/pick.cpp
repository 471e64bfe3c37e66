// pick(): see pick.h. Everything between taking and releasing the lock is arithmetic on the block.
#include "pick_site.h"
#include "availability.h"
#include "sla.h"
#include "transaction.h"

void look_beside(Site* site, int32 rep, int32 member) {
    if (site->beside == NULL)
        return;
    RepState* mine = site->block->rep(rep);
    // what is aside may have been counted before this transaction edited the record
    bool aside = !record_is_edited(site->request->key);
    const DayCounts* days = block_rep_days(site->beside, mine->id, aside);
    if (days == NULL)
        return;
    mine->days = *days;
    mine->open = *block_rep_open(site->beside, mine->id, aside);
    rep_load_changed(site->block, rep);
    if (const RepState* other = rep_of(site->beside, mine->id))
        presence_carry(&mine->presence, &other->presence);
    if (member < 0)
        return;
    MemberState* m = site->block->member(member);
    const MemberState* other =
        block_member_state(site->beside, site->block->pool(m->pool)->id, mine->id, aside);
    if (other != NULL)
        m->days = other->days;
}

// Capped members whose day may be over: asked once a minute, or when the clock was set. A draft
// asks each time, since turns that others give back come to the shared block alone.
static bool capped_due(const Site* site, PoolState* pool) {
    if (site->beside == NULL && pool->checked_minute == site->zones->minute)
        return false;
    pool->checked_minute = site->zones->minute;
    return pool->parked[static_cast<int>(core::State::rep_cap)] > 0 ||
           pool->parked[static_cast<int>(core::State::member_cap)] > 0 ||
           pool->parked[static_cast<int>(core::State::open_cap)] > 0;
}

void pool_recheck(Site* site, PoolState* pool) {
    bool capped = capped_due(site, pool);
    bool steady = pool_steady(pool, site->zones->now);
    if (steady && !capped)
        return;
    for (int32 k = 0; k < pool->queue.member_count; k++) {
        int32 member = pool->first_member + k;
        look_beside(site, site->block->member(member)->rep, member);
        member_refresh(site->block, member, site->zones);
    }
    if (!steady)
        pool_settle(site->block, pool, site->zones->now);
}

void fill_pick(Site* site, Pick* result, int32 member, int32 rep_index) {
    const RepState* rep = site->block->rep(rep_index);
    result->found = true;
    result->rep = rep->id;
    result->day = site->zones->day[rep->zone];
    result->rep_cap = rep->cap;
    result->open_cap = rep->open_cap;
    result->member_cap = member < 0 ? kNoCap : site->block->member(member)->cap;
    int32 pool = member < 0 ? -1 : site->block->member(member)->pool;
    result->pool = pool < 0 ? 0 : site->block->pool(pool)->id;
    result->sla = sla_policy_for(site->block, site->request, rep_index, pool);
    site->taker = rep_index;
}

void settle_draft(Site* site, const Pick* result) {
    if (!site->draft)
        return;
    block_settle(site->block, result->pool, result->rep, result->day, 1, result->extra);
    if (site->beside != NULL)
        block_charge(site->beside, result->pool, result->rep, result->day, 1, site->zones,
                     result->extra);
}

// Charges member k of the pool, among the filtered ones when there is a filter.
static void charge_member(Site* site, PoolState* pool, int32 k) {
    int32 member = pool->first_member + k;
    MemberState* m = site->block->member(member);
    RepState* rep = site->block->rep(m->rep);
    DateADT day = site->zones->day[rep->zone];
    if (!site->filter) {
        block_charge_at(site->block, m->rep, member, day, 1, site->zones, site->extra);
        return;
    }
    site->block->queue(pool).charge_among(k, site->filtered, site->filtered_count, site->extra);
    m->received++;
    m->in_flight++;
    m->extra += site->extra;
    m->in_flight_extra += site->extra;
    days_add(&m->days, day, 1, 1);
    days_add(&rep->days, day, 1, 1);
    rep_open_add(site->block, m->rep, 1, 1);
    rep_refresh(site->block, m->rep, site->zones);
}

static bool try_pool(Site* site, int32 pool_index, Pick* result) {
    TenantBlock* block = site->block;
    PoolState* pool = block->pool(pool_index);
    core::FairQueue queue = block->queue(pool);
    pool_recheck(site, pool);
    site->gave_up = 0;
    site->filter = takes_filter(site, pool) && !leave_out(site, pool);
    site->extra = pool->by_value ? lead_extra(site, pool) : 0;
    for (;;) {
        if (site->filter)
            filter_members(site, pool);
        int32 k = next_member(site, pool);
        if (k < 0)
            break;
        int32 member = pool->first_member + k;
        look_beside(site, block->member(member)->rep, member);
        if (member_state(block, member, site->zones) != core::State::turn) {
            member_refresh(block, member, site->zones);
            continue;
        }
        fill_pick(site, result, member, block->member(member)->rep);
        site->taken_at = member_measure(site, pool, member);
        charge_member(site, pool, k);
        result->deficit = queue.deficit(k);
        result->tag = block_tag(block, member);
        result->extra = site->extra;
        settle_draft(site, result);
        explain_pool(site, pool_index, member);
        if (!site->filter)
            leave_in(site, pool);
        return true;
    }
    explain_pool(site, pool_index, -1);
    if (!site->filter)
        leave_in(site, pool);
    return false;
}

static bool try_rep(Site* site, Pick* result) {
    TenantBlock* block = site->block;
    int32 i = block_find_rep(block, site->request->rep);
    core::Tried* tried = leadroute_explain || site->visit != NULL
                             ? explain_start(site->explanation, 0, i < 0 ? 0 : 1)
                             : NULL;
    if (tried != NULL)
        tried->known = site->request->known_owner;
    if (i < 0)
        return false;
    look_beside(site, i, -1);
    const RepState* rep = block->rep(i);
    int32 used = days_used(&rep->days, site->zones->day[rep->zone]);
    core::State availability = rep_availability(block, rep, site->zones->now);
    core::State state = core::State::picked;
    if (rep->paused)
        state = core::State::rep_paused;
    else if (availability != core::State::turn)
        state = availability;
    else if (lacks_skills(site, i))
        state = core::State::unskilled;
    else if (gave_lead_up(site->request, rep->id))
        state = core::State::gave_up;
    else if (lacks_ref(rep, site->request->ref))
        state = core::State::no_ref;
    else if (rep->open_cap != kNoCap && rep->open.used >= rep->open_cap)
        state = core::State::open_cap;
    else if (rep->cap != kNoCap && used >= rep->cap)
        state = core::State::rep_cap;
    bool open = state == core::State::open_cap;
    core::Candidate candidate = {rep->id, state, 0, open ? rep->open.used : used,
                                 open ? rep->open_cap : rep->cap};
    if (tried != NULL)
        tried->candidates[tried->candidate_count++] = candidate;
    if (site->visit != NULL)
        site->visit(site->context, site->request->known_owner ? -1 : 0, core::Measure::turns,
                    &candidate);
    if (state != core::State::picked)
        return false;
    fill_pick(site, result, -1, i);
    block_charge_at(block, i, -1, result->day, 1, site->zones);
    settle_draft(site, result);
    return true;
}

// Whether the lead goes no further: somebody has it, or it waits here for who takes it.
static bool ask_pool(Site* site, int32 pool_index, Pick* result) {
    PoolState* pool = site->block->pool(pool_index);
    if (pool->mode == PoolMode::push || pool->id == site->request->push_pool)
        return try_pool(site, pool_index, result);
    if (pool->mode == PoolMode::broadcast && !offer_to_members(site, pool, result))
        return false;
    result->waits_in = pool->id;
    return true;
}

// The target, the rule's overflow pool, then the overflow pools of those, each once.
static void try_all(Site* site, Pick* result) {
    const PickRequest* request = site->request;
    int32 chain[core::kMaxTried];
    int32 count = 0;
    filter_prepare(site);
    if (request->rep != 0 && try_rep(site, result))
        return;
    const int32 starts[] = {request->pool, request->overflow_pool};
    for (int32 id : starts) {
        int32 pool = id == 0 ? -1 : block_find_pool(site->block, id);
        if (pool >= 0 && count < core::kMaxTried)
            chain[count++] = pool;
    }
    for (int32 i = 0; i < count; i++) {
        if (ask_pool(site, chain[i], result)) {
            result->overflowed = site->block->pool(chain[i])->id != request->pool;
            return;
        }
        int32 next = site->block->pool(chain[i])->overflow;
        bool seen = next < 0;
        for (int32 k = 0; k < count && !seen; k++)
            seen = chain[k] == next;
        if (!seen && count < core::kMaxTried)
            chain[count++] = next;
    }
}

// --- entering ---

static int32* scratch_room;
static int32 scratch_size;

static int32* scratch(int32 members) {
    if (scratch_size < members) {
        Size bytes = sizeof(int32) * (members + 64);
        scratch_room = static_cast<int32*>(scratch_room == NULL
                                               ? MemoryContextAllocHuge(TopMemoryContext, bytes)
                                               : repalloc_huge(scratch_room, bytes));
        scratch_size = members + 64;
    }
    return scratch_room;
}

static void start_clock(const Site* site, TimestampTz at, Pick* result) {
    if (result->sla != 0)
        sla_start(site->block, site->taker, at, result);
}

static void note(TenantSlot* slot, const Site* site, Pick* result) {
    result->slot = slot;
    result->decided_at = slot_clock(slot, site->request->now);
    start_clock(site, result->decided_at, result);
    result->ticket = charge_ticket(slot, GetCurrentTransactionStartTimestamp());
    slot->in_flight++;
    if (++slot->since_checkpoint >= 1000 &&
        slot->since_checkpoint >= 8 * (int64)slot_block(slot)->member_count)
        slot->checkpoint_wanted = true;
}

// In the tenant's shared block.
static void act_shared(const TenantKey* key, Site* site, Action action, Pick* result) {
    TimestampTz now = site->request->now;
    int32 members = 0;
    for (;;) {
        TenantSlot* slot = tenant_ready(key);
        if (slot == NULL) {
            result->memory_full = true;
            return;
        }
        charge_prepare();
        site->zones = zone_days(now, true);
        site->filtered = scratch(members);
        bool done = false;
        LWLockAcquire(slot_lock(slot), LW_EXCLUSIVE);
        if (tenant_usable(slot, key)) {
            site->block = slot_block(slot);
            members = site->block->member_count;
            // scratch() and zone_days() ran before the lock: was their room enough?
            if (zone_known(site->zones, site->block->zone_count - 1) &&
                (!may_filter(site->request) || scratch_size >= members)) {
                action(site, result);
                if (result->found)
                    note(slot, site, result);
                done = true;
            }
        }
        LWLockRelease(slot_lock(slot));
        if (done) {
            if (result->found)
                charge_note(slot, result->pool, result->rep, result->day, core::Effect::turn,
                            result->extra);
            return;
        }
        CHECK_FOR_INTERRUPTS();
    }
}

// In the draft's block with the shared one beside it. False: that is not loaded.
static bool act_beside(const TenantKey* key, TenantSlot* slot, Site* site, Action action,
                       Pick* result) {
    for (;;) {
        const Draft* draft = tenant_draft(key);
        site->block = draft->block;
        site->zones = zone_days(site->request->now, true);
        site->filtered = scratch(site->block->member_count);
        charge_prepare();
        // one that waits to be counted anew is what the others go by until nothing is in flight
        LWLockAcquire(slot_lock(slot), LW_EXCLUSIVE);
        bool loaded = tenant_usable(slot, key) && !(slot->recount && slot->in_flight == 0) &&
                      zone_known(site->zones, slot_block(slot)->zone_count - 1);
        bool known = loaded && slot->build == draft->build;
        if (known && draft->full) {
            result->memory_full = true;
        } else if (known) {
            site->beside = slot_block(slot);
            action(site, result);
            if (result->found)
                note(slot, site, result);
        }
        LWLockRelease(slot_lock(slot));
        if (known || !loaded)
            return loaded;
        CHECK_FOR_INTERRUPTS();
    }
}

// In this transaction's own block.
static void act_draft(const TenantKey* key, Site* site, Action action, Pick* result) {
    site->draft = true;
    TenantSlot* slot = slot_find(key);
    bool loaded = slot != NULL && act_beside(key, slot, site, action, result);
    if (!loaded) {
        site->block = tenant_draft(key)->block;
        site->zones = zone_days(site->request->now, true);
        site->filtered = scratch(site->block->member_count);
        action(site, result);
    }
    if (!result->found)
        return;
    if (loaded) {
        charge_note(slot, result->pool, result->rep, result->day, core::Effect::turn,
                    result->extra);
        return;
    }
    start_clock(site, site->request->now, result);
    // whoever loads the tenant before this commits does not count these turns, and without a ticket
    // they are in no checkpoint
    record_edited(key->assignment, key->tenant, false);
    checkpoint_bar(key);
}

void pick_act(const TenantKey* key, Site* site, Action action, Pick* result) {
    memset(static_cast<void*>(result), 0, sizeof(*result));
    result->rep_cap = result->member_cap = result->open_cap = kNoCap;
    if (config_is_draft(key->tenant))
        act_draft(key, site, action, result);
    else
        act_shared(key, site, action, result);
}

void pick(const PickRequest* request, Pick* result, core::Explanation* explanation) {
    Site site = {};
    site.request = request;
    site.explanation = explanation;
    pick_act(request->key, &site, try_all, result);
}

static TenantBlock* draft_copy(const TenantKey* key, Site* site) {
    TenantBlock* draft = tenant_draft(key)->block;
    char* memory =
        static_cast<char*>(MemoryContextAllocHuge(CurrentMemoryContext, draft->size + kBlockAlign));
    TenantBlock* copy = reinterpret_cast<TenantBlock*>(TYPEALIGN(kBlockAlign, memory));
    memcpy(static_cast<void*>(copy), draft, draft->size);
    TenantSlot* slot = slot_find(key);
    site->draft = true;
    site->beside = slot == NULL || slot->recount ? NULL : tenant_copy(key, slot);
    return copy;
}

void pick_rehearse(const PickRequest* request, Pick* result, core::Explanation* explanation,
                   CandidateVisitor visit, void* context) {
    memset(static_cast<void*>(result), 0, sizeof(*result));
    result->rep_cap = result->member_cap = result->open_cap = kNoCap;
    Site site = {};
    site.request = request;
    site.explanation = explanation;
    site.visit = visit;
    site.context = context;
    TenantSlot* slot;
    site.block = config_is_draft(request->key->tenant) ? draft_copy(request->key, &site)
                                                       : tenant_ready_copy(request->key, &slot);
    result->memory_full = site.block == NULL;
    if (result->memory_full)
        return;
    // the copies are there: whichever zones they name are known by now
    site.zones = zone_days(request->now, true);
    site.filtered = scratch(site.block->member_count);
    try_all(&site, result);
}

void pick_private(TenantBlock* block, const PickRequest* request, Pick* result,
                  core::Explanation* explanation) {
    memset(static_cast<void*>(result), 0, sizeof(*result));
    result->rep_cap = result->member_cap = result->open_cap = kNoCap;
    Site site = {};
    site.block = block;
    site.draft = true;
    site.request = request;
    site.explanation = explanation;
    site.zones = zone_days(request->now, true);
    site.filtered = scratch(block->member_count);
    try_all(&site, result);
}

static bool is_filtered(const Site* site, int32 k) {
    for (int32 i = 0; i < site->filtered_count; i++)
        if (site->filtered[i] == k)
            return true;
    return false;
}

void pick_repeat(TenantBlock* block, const PickRequest* request, DateADT day, int64 extra) {
    Site site = {};
    site.block = block;
    site.request = request;
    site.zones = zone_days(request->now, true);
    site.filtered = scratch(block->member_count);
    site.extra = extra;
    int32 i = block_find_pool(block, request->pool);
    int32 member = i < 0 ? -1 : block_find_member(block, i, request->rep);
    if (i >= 0) {
        filter_prepare(&site);
        pool_recheck(&site, block->pool(i));
        site.filter = takes_filter(&site, block->pool(i));
    }
    if (site.filter)
        filter_members(&site, block->pool(i));
    int32 k = member < 0 ? -1 : member - block->pool(i)->first_member;
    if (k >= 0 && is_filtered(&site, k))
        charge_member(&site, block->pool(i), k);
    else
        block_charge(block, request->pool, request->rep, day, 1, site.zones, extra);
    block_settle(block, request->pool, request->rep, day, 1, extra);
}

static void give_to(Site* site, Pick* result) {
    int32 i = block_find_rep(site->block, site->request->rep);
    if (i < 0)
        return;
    look_beside(site, i, -1);
    fill_pick(site, result, -1, i);
    result->rep_cap = result->open_cap = kNoCap;
    block_charge_at(site->block, i, -1, result->day, 1, site->zones);
    settle_draft(site, result);
}

void pick_given(const TenantKey* key, int64 rep, TimestampTz now, int32 sla, int32 table_sla,
                Pick* result) {
    PickRequest request = {key, 0, rep, 0, RefNeed::none, now, NULL, NULL};
    request.sla = sla;
    request.table_sla = table_sla;
    Site site = {};
    site.request = &request;
    pick_act(key, &site, give_to, result);
}
