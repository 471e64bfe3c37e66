// Who is available when: absences, working hours and presence. What the tables say becomes, when a
// tenant is loaded, windows of absolute time in its block (core/business_time.h), so that under the
// slot's lock each question is a search, at the exact instant of the pick.
#pragma once

#include "leadroute.h"

#include "block.h"

inline bool within(TimestampTz t, TimestampTz from, TimestampTz until) {
    return t >= from && t < until;
}

// --- in a block; nothing here locks, allocates or raises ---

// absent, off_shift, or turn: available.
core::State rep_availability(TenantBlock* block, const RepState* rep, TimestampTz now);
// Signed in and heard of within the timeout.
bool rep_present(const RepState* rep, TimestampTz now);
inline RepState* rep_of(TenantBlock* block, int64 id) {
    int32 i = block_find_rep(block, id);
    return i < 0 ? NULL : block->rep(i);
}
// Whether the member cannot have taken leads all the time from `since` to `now`. What lies before
// the block's horizon counts as away for those with working hours.
bool member_was_away(TenantBlock* block, int32 member, TimestampTz since, TimestampTz now);
// Takes over what heartbeats have told another block of the same stay.
void presence_carry(Presence* to, const Presence* from);
// The rep has signed in (seen) or out (DT_NOBEGIN): its members follow at once.
void presence_apply(TenantBlock* block, const RepPresence* row, const ZoneDays* zones);

// No member of the pool becomes available, or stops to be, between pool_settle() and now but for
// what is told to the block. So a pick looks at one pair of instants, and at the members only when
// their time has come, or the clock was set.
bool pool_steady(const PoolState* pool, TimestampTz now);
void pool_unsettle(PoolState* pool);
// After all of its members were refreshed.
void pool_settle(TenantBlock* block, PoolState* pool, TimestampTz now);
// The block's windows end.
inline bool block_bounded(const TenantBlock* block) {
    return block->horizon_from != DT_NOBEGIN || block->horizon_until != DT_NOEND;
}

// --- from the tables ---

struct RepShift {
    int64 rep;
    int32 shift;
};
struct RepAbsence {
    int64 rep;
    core::Window window;
};
struct Availability {
    core::Window* windows; // of all shifts, one after another
    ShiftState* shifts;
    RepShift* rep_shifts;
    PolicyShift* policy_shifts; // sorted by policy
    RepAbsence* absences;       // sorted by rep
    RepPresence* presences;
    int32 window_count, shift_count, rep_shift_count, policy_shift_count, absence_count;
    int32 presence_count;
    TimestampTz horizon_from, horizon_until;
};
// The time for which hours and absences are laid out.
struct Horizon {
    TimestampTz from, until;
};
Horizon horizon_now(void); // around the present
// Reads them under the active snapshot, within SPI, into `context`.
const Availability* availability_read(int64 tenant, const Horizon* horizon, MemoryContext context);
void availability_room(const Availability* from, BlockRoom* room);
// Into a block whose reps are there.
void availability_fill(TenantBlock* block, const Availability* from);

// The hours of a calendar, with the holidays from two days before `from` to two days after `to`.
struct CalendarHours {
    core::WorkWeek week;
    core::HoursSpan* spans;
    int32* holidays;
};
// Within SPI, under the active snapshot, into the current memory context.
void calendar_hours_read(int64 tenant, Datum calendar, TimestampTz from, TimestampTz to,
                         CalendarHours* hours);

// The zone's offsets from `from` to `to`; a zone changes its offset a few times a year at most, and
// what is beyond so many changes has the last one's.
constexpr int32 kMostOffsets = 64;
int32 zone_offsets(const char* name, TimestampTz from, TimestampTz to, core::Offset* out);
