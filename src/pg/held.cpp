// What a transaction holds of a tenant, kept or dropped when it ends. Runs under the slot's lock in
// commit and abort callbacks: arithmetic alone.
#include "transaction.h"

void rep_load_changed(TenantBlock* block, int32 rep) {
    RepState* r = block->rep(rep);
    if (!r->has_load)
        return;
    for (int32 i = 0; i < r->member_count; i++) {
        int32 member = *block->member_of_rep(r->first_member + i);
        PoolState* pool = block->pool(block->member(member)->pool);
        if (pool->queue.order == core::Order::least)
            block->queue(pool).set_load(member - pool->first_member, r->open.used);
    }
}

void rep_open_add(TenantBlock* block, int32 rep, int32 used, int32 in_flight) {
    OpenCount* open = &block->rep(rep)->open;
    open->used += used;
    open->in_flight += in_flight;
    rep_load_changed(block, rep);
}

// Open leads of the rep have ended: who was at capacity is eligible again at once.
static void end_open(TenantBlock* block, int64 rep, int32 leads, const ZoneDays* zones) {
    OpenCount* open = block_rep_open(block, rep);
    if (open == NULL)
        return;
    open->ending -= leads;
    if (open->known == OpenKnown::counting) {
        open->doubtful = true; // whoever reads the record may have seen them open or not
        return;
    }
    int32 i = block_find_rep(block, rep);
    if (i < 0) {
        open->used -= leads;
        return;
    }
    rep_open_add(block, i, -leads, 0);
    if (block->rep(i)->open_cap != kNoCap)
        rep_refresh(block, i, zones);
}

static void credit_day(DayCounts* days, const Held* held) {
    if (held->effect == core::Effect::credit_day)
        days_add(days, held->day, -held->turns, 0);
}

// The member's turns were for nothing: as if they had not been given out.
static void credit(TenantBlock* block, const Held* held, const ZoneDays* zones) {
    int32 i = held->pool == 0 ? -1 : block_find_member_of(block, held->pool, held->rep);
    if (i >= 0) {
        MemberState* m = block->member(i);
        PoolState* pool = block->pool(m->pool);
        m->received -= held->turns;
        m->extra -= held->extra;
        block->queue(pool).give_back(i - pool->first_member, held->turns, held->extra);
        credit_day(&m->days, held);
    } else if (AsideMember* aside = aside_find_member(block, held->pool, held->rep)) {
        int32 pool = block_find_pool(block, held->pool);
        aside->state.received -= held->turns;
        aside->state.extra -= held->extra;
        if (pool >= 0)
            aside->tag.parked_deficit +=
                block->queue(block->pool(pool))
                    .refund(aside->tag.lane, aside->tag.weight, held->turns, held->extra);
        credit_day(&aside->state.days, held);
    }
    DayCounts* days = block_rep_days(block, held->rep);
    if (days != NULL)
        credit_day(days, held);
    int32 rep = block_find_rep(block, held->rep);
    if (rep >= 0)
        rep_refresh(block, rep, zones);
}

void block_keep(TenantBlock* block, const Held* held, const ZoneDays* zones) {
    switch (held->effect) {
    case core::Effect::turn:
        block_settle(block, held->pool, held->rep, held->day, held->turns, held->extra);
        break;
    case core::Effect::end:
        end_open(block, held->rep, held->turns, zones);
        break;
    case core::Effect::credit:
    case core::Effect::credit_day:
        credit(block, held, zones);
        break;
    }
}

void block_drop(TenantBlock* block, const Held* held, const ZoneDays* zones) {
    if (held->effect == core::Effect::turn) {
        block_charge(block, held->pool, held->rep, held->day, -held->turns, zones, -held->extra);
    } else if (held->effect == core::Effect::end) {
        OpenCount* open = block_rep_open(block, held->rep);
        if (open != NULL)
            open->ending -= held->turns;
    }
}

void slot_end_held(TenantSlot* slot, const Held* held, bool kept, const ZoneDays* zones) {
    if (kept)
        block_keep(slot_block(slot), held, zones);
    else
        block_drop(slot_block(slot), held, zones);
    if (held->effect == core::Effect::turn)
        slot->counter[kept ? COUNT_ROUTED : COUNT_REFUNDED] += held->turns;
    else if (kept && held->effect == core::Effect::end)
        (void)slot_clock(slot, GetCurrentTimestamp());
    slot->in_flight -= held->turns;
}
