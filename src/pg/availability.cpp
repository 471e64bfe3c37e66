// Questions to a block about who is available; see availability.h.
#include "availability.h"

static TimestampTz timeout_at(const RepState* rep) {
    return rep->presence.seen + leadroute_presence_timeout * USECS_PER_SEC;
}

bool rep_present(const RepState* rep, TimestampTz now) {
    return rep->presence.seen != DT_NOBEGIN && now < timeout_at(rep);
}

static const core::Window* absences(TenantBlock* block, const RepState* rep) {
    return block->window(rep->first_absence);
}

core::State rep_availability(TenantBlock* block, const RepState* rep, TimestampTz now) {
    if (rep->absence_count > 0 && core::is_open(absences(block, rep), rep->absence_count, now))
        return core::State::absent;
    if (rep->shift < 0)
        return core::State::turn;
    const ShiftState* shift = block->shift(rep->shift);
    return core::is_open(block->window(shift->first_window), shift->window_count, now)
               ? core::State::turn
               : core::State::off_shift;
}

bool member_was_away(TenantBlock* block, int32 member, TimestampTz since, TimestampTz now) {
    const RepState* rep = block->rep(block->member(member)->rep);
    if (rep->absence_count > 0 &&
        core::open_time_between(absences(block, rep), rep->absence_count, since, now) > 0)
        return true;
    if (rep->shift >= 0) {
        const ShiftState* shift = block->shift(rep->shift);
        const core::Window* windows = block->window(shift->first_window);
        int32 i = core::find_window(windows, shift->window_count, since);
        if (since < block->horizon_from || i == shift->window_count || windows[i].from > since ||
            windows[i].to < now)
            return true;
    }
    return block->pool(block->member(member)->pool)->presence_required &&
           (!rep_present(rep, now) || rep->presence.signed_in_at > since);
}

void presence_carry(Presence* to, const Presence* from) {
    if (to->version != from->version || from->seen == DT_NOBEGIN)
        return;
    to->seen = Max(to->seen, from->seen);
    to->stored = Max(to->stored, from->stored);
}

void presence_apply(TenantBlock* block, const RepPresence* row, const ZoneDays* zones) {
    const Presence* presence = &row->presence;
    int32 i = block_find_rep(block, row->rep);
    if (i < 0 || block->rep(i)->presence.version >= presence->version)
        return;
    RepState* r = block->rep(i);
    r->presence = *presence;
    rep_refresh(block, i, zones);
    for (int32 k = 0; k < r->member_count; k++) {
        PoolState* pool =
            block->pool(block->member(*block->member_of_rep(r->first_member + k))->pool);
        if (!pool->presence_required)
            continue;
        // of a zone not met yet no cap is known in a callback: the next pick asks
        if (!zone_known(zones, r->zone))
            pool_unsettle(pool);
        else if (presence->seen != DT_NOBEGIN)
            pool->steady_until = Min(pool->steady_until, timeout_at(r));
    }
}

// --- when to look again ---

bool pool_steady(const PoolState* pool, TimestampTz now) {
    return within(now, pool->steady_from, pool->steady_until) &&
           (!pool->presence_required || pool->steady_timeout == leadroute_presence_timeout);
}

void pool_unsettle(PoolState* pool) {
    pool->steady_from = pool->steady_until = 0;
}

static void narrow(PoolState* pool, const core::Window* windows, int32 count, TimestampTz now) {
    int64 before, after;
    core::changes_around(windows, count, now, &before, &after);
    pool->steady_from = Max(pool->steady_from, before);
    pool->steady_until = Min(pool->steady_until, after);
}

void pool_settle(TenantBlock* block, PoolState* pool, TimestampTz now) {
    pool->steady_from = DT_NOBEGIN;
    pool->steady_until = DT_NOEND;
    pool->steady_timeout = leadroute_presence_timeout;
    for (int32 k = 0; k < pool->queue.member_count; k++) {
        const RepState* rep = block->rep(block->member(pool->first_member + k)->rep);
        if (rep->absence_count > 0)
            narrow(pool, absences(block, rep), rep->absence_count, now);
        if (rep->shift >= 0) {
            const ShiftState* shift = block->shift(rep->shift);
            narrow(pool, block->window(shift->first_window), shift->window_count, now);
        }
        if (!pool->presence_required || rep->presence.seen == DT_NOBEGIN)
            continue;
        if (rep_present(rep, now))
            pool->steady_until = Min(pool->steady_until, timeout_at(rep));
        else
            pool->steady_from = Max(pool->steady_from, timeout_at(rep));
    }
}
