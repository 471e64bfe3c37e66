// One tenant's pools, members and reps, as one relocatable piece of memory: arrays behind a header,
// found by index, never by pointer. In shared memory it is guarded by its TenantSlot's lock; a
// transaction that changed the configuration keeps a private one. Nothing here locks, allocates or
// raises, so all of it may run under an LWLock and in transaction callbacks.
#pragma once

#include "leadroute.h"

#include "../core/business_time.h"
#include "../core/explanation.h"
#include "../core/fair_queue.h"
#include "../core/ledger.h"
#include "../core/places.h"
#include "zones.h"

namespace core = leadroute::core;

// Turns used on one calendar day of the rep's zone; in_flight of them are not settled yet.
struct DayCount {
    DateADT day;
    int32 used;
    int32 in_flight;
};

constexpr int kDaySlots = 4;

// The last few days. A day at or after known_from that has no slot was not used at all; an earlier
// one is not known here.
struct DayCounts {
    DateADT known_from;
    int32 count;
    DayCount slot[kDaySlots];
};

constexpr int32 kNoCap = -1;

// A rep's open leads. Not every rep's are read from the record: of one without a capacity and
// outside the pools that go by open leads, `used` is but what has changed since it was loaded.
enum class OpenKnown : uint8 {
    no,
    counting, // the record is being read; `used` is what was in flight then and has come since
    yes,
};
struct OpenCount {
    int32 used;      // in flight included
    int32 in_flight; // charged and not settled
    int32 ending;    // noted as ended by transactions that have not ended themselves
    OpenKnown known;
    bool doubtful; // while counting one ended, which the reading may have seen or not
};

// The hours of a calendar in a zone, as windows of the block.
struct ShiftState {
    int32 first_window;
    int32 window_count;
};

// When a rep was last heard of, as leadroute.presence says and heartbeats since.
struct Presence {
    TimestampTz signed_in_at;
    TimestampTz seen;   // DT_NOBEGIN: signed out
    TimestampTz stored; // the latest of seen that is, or is about to be, on disk
    int32 version;      // of the row; 0: there is none
};

// A first-touch policy (sla.h); times in microseconds after the assignment.
struct SlaPolicy {
    int32 id;
    bool business_time;
    int32 first_shift; // its hours, of reps without a calendar of their own
    int32 shift_count; // 0: all hours
    int64 first_touch;
    int64 first_step; // the breach is one, too
};

// The policy that a rule names.
struct RulePolicy {
    int64 rule; // id
    int32 policy;
};

// The hours of a policy's calendar for reps of one zone.
struct PolicyShift {
    int32 policy; // id
    int32 zone;   // as in RepState; -1: any
    int32 shift;  // index of the ShiftState
};

struct RepPresence {
    int64 rep;
    Presence presence;
};

struct RepState {
    int64 id;
    int32 zone;     // index into the shared zone list
    int32 cap;      // daily cap or kNoCap
    int32 open_cap; // most open leads or kNoCap
    bool has_load;  // a pool of the rep goes by open leads
    bool counts_open;
    bool paused;
    bool has_ref;
    bool ref_is_uuid;
    int32 first_member; // in TenantBlock's by_rep list
    int32 member_count;
    int32 shift;         // index of the ShiftState, -1: any time
    int32 first_absence; // windows in which the rep is away
    int32 absence_count;
    int32 sla; // policy's id, 0: none
    Presence presence;
    DayCounts days;
    OpenCount open;
};

struct MemberState {
    int32 rep;  // index of the RepState
    int32 pool; // index of the PoolState
    int32 cap;  // daily cap or kNoCap
    bool paused;
    core::State reason;  // why it is parked; State::turn while active
    uint64 settled_turn; // its tag's last_turn when nothing of it was last in flight
    int64 received;      // leads given, in flight included
    int64 in_flight;
    int64 extra; // what those given cost beyond one turn each, in the queue's units
    int64 in_flight_extra;
    DayCounts days;
};

// Counts kept aside: of reps and members that the block's configuration lacks. They have left with
// turns in flight, or an open transaction that adds them gives them turns. Every turn in flight is
// counted at a rep and member of the block or here, so that it is settled where it was charged; and
// who comes (back) finds its counts here, while the record does not show all of them yet.
struct AsideRep {
    int64 id;
    DayCounts days;
    OpenCount open;
};

struct AsideMember {
    int32 pool;        // id
    int64 paid;        // of its turns in flight, those charged while it was a member
    MemberState state; // the counts alone; it has no index here
    core::Member tag;  // as one that is parked
};

// How a pool's leads reach its members.
enum class PoolMode : uint8 {
    push,      // they are given out
    pull,      // they wait until a member claims them
    broadcast, // they are offered to all who may take them
};

struct PoolState {
    int32 id;
    PoolMode mode;
    int64 offer_window; // microseconds, 0: an offer has no end
    int32 first_member;
    int32 overflow; // index of the pool to try next, or -1
    core::CatchUp catch_up;
    double catch_up_limit;
    int32 parked[core::kStates]; // parked members by reason
    int32 without_ref;           // members whose rep has no ref
    int32 without_uuid;          // members whose rep has no uuid as ref
    int64 checked_minute;        // when capped members were last asked whether their day is over
    int32 first_lane;
    core::Queue queue;

    // No member's availability changes within, see pool_steady(); with the presence timeout, in
    // seconds, that it was found out by.
    TimestampTz steady_from, steady_until;
    int32 steady_timeout;
    bool presence_required;
    bool by_value;           // a lead costs its value
    TimestampTz value_since; // what was due before does not count: it was in other units
    int32 sla;               // policy's id, 0: none
};

// A skill, and the reps who have it: the holders from first_holder on, by rep index.
struct SkillState {
    uint32 name; // offset
    int32 length;
    int32 first_holder;
    int32 holder_count;
};
struct SkillHolder {
    int32 rep; // index
    double level;
};

struct TenantBlock {
    int32 pool_count;
    int32 rep_count;
    int32 member_count;
    int32 lane_count;
    int32 zone_count; // zones that the reps name are below this
    int32 aside_rep_count, aside_rep_room;
    int32 aside_member_count, aside_member_room;
    uint64 aside_turns; // orders the turns of those aside whose pool is not here
    int32 skill_count, holder_count, skill_name_bytes;
    int32 shift_count, window_count, policy_count, policy_shift_count;
    int32 rule_policy_count;
    // Windows are known for this time, with a day more at either end; outside, load anew.
    TimestampTz horizon_from, horizon_until;
    uint32 pools, lanes, spots, reps, members, tags, ready, waiting,
        by_rep; // offsets of the arrays
    uint32 skills, holders, skill_names, shifts, windows, policies, policy_shifts;
    uint32 rule_policies;
    uint32 aside_reps, aside_members; // these come last
    Size size;

    char* at(uint32 offset) { return reinterpret_cast<char*>(this) + offset; }
    PoolState* pool(int32 i) { return reinterpret_cast<PoolState*>(at(pools)) + i; }
    core::Lane* lane(int32 i) { return reinterpret_cast<core::Lane*>(at(lanes)) + i; }
    // where the members of a lane are
    core::Spot* spot(int32 i) { return reinterpret_cast<core::Spot*>(at(spots)) + i; }
    RepState* rep(int32 i) { return reinterpret_cast<RepState*>(at(reps)) + i; }
    MemberState* member(int32 i) { return reinterpret_cast<MemberState*>(at(members)) + i; }
    core::Member* tag(int32 i) { return reinterpret_cast<core::Member*>(at(tags)) + i; }
    SkillState* skill(int32 i) { return reinterpret_cast<SkillState*>(at(skills)) + i; }
    SkillHolder* holder(int32 i) { return reinterpret_cast<SkillHolder*>(at(holders)) + i; }
    AsideRep* aside_rep(int32 i) { return reinterpret_cast<AsideRep*>(at(aside_reps)) + i; }
    AsideMember* aside_member(int32 i) {
        return reinterpret_cast<AsideMember*>(at(aside_members)) + i;
    }
    ShiftState* shift(int32 i) { return reinterpret_cast<ShiftState*>(at(shifts)) + i; }
    core::Window* window(int32 i) { return reinterpret_cast<core::Window*>(at(windows)) + i; }
    SlaPolicy* policy(int32 i) { return reinterpret_cast<SlaPolicy*>(at(policies)) + i; }
    RulePolicy* rule_policy(int32 i) {
        return reinterpret_cast<RulePolicy*>(at(rule_policies)) + i;
    }
    PolicyShift* policy_shift(int32 i) {
        return reinterpret_cast<PolicyShift*>(at(policy_shifts)) + i;
    }
    int32* member_of_rep(int32 i) { return reinterpret_cast<int32*>(at(by_rep)) + i; }
    core::Lane* lane_of(int32 i) { return lane(pool(member(i)->pool)->first_lane + tag(i)->lane); }
    core::FairQueue queue(PoolState* p) {
        return core::FairQueue(&p->queue, lane(p->first_lane), tag(p->first_member),
                               reinterpret_cast<int32*>(at(ready)) + p->first_member,
                               reinterpret_cast<int32*>(at(waiting)) + p->first_member);
    }
};

// Blocks start at this alignment: the tags are 128-bit integers.
constexpr Size kBlockAlign = 16;

struct BlockRoom {
    int32 pools;
    int32 reps;
    int32 members;
    int32 aside_reps;
    int32 aside_members;
    int32 lanes;
    int32 skills;
    int32 holders;
    int32 skill_name_bytes;
    int32 shifts;
    int32 windows;
    int32 policies;
    int32 policy_shifts;
    int32 rule_policies;
};
// Of a block like this one.
BlockRoom block_room(const TenantBlock* block);

// Bytes of a block with so many entries; block_format() lays one out, all else zero.
Size block_size(const BlockRoom* room);
void block_format(TenantBlock* block, const BlockRoom* room);
// A copy of the block with so much more room aside, at `to`.
void block_copy_wider(TenantBlock* to, TenantBlock* from, int32 aside_reps, int32 aside_members);

// Binary searches over arrays sorted by id; -1: not there. Members of a pool are sorted by rep id.
int32 block_find_pool(TenantBlock* block, int32 id);
int32 block_find_rep(TenantBlock* block, int64 id);
int32 block_find_member(TenantBlock* block, int32 pool, int64 rep);
// The same by the pool's id.
int32 block_find_member_of(TenantBlock* block, int32 pool, int64 rep);

// Aside, sorted by id, and by pool and rep id; NULL: not there.
AsideRep* aside_find_rep(TenantBlock* block, int64 id);
AsideMember* aside_find_member(TenantBlock* block, int32 pool, int64 rep);
// Put a copy aside where there is room. Nothing is found before aside_sort().
void aside_add_rep(TenantBlock* block, int64 id, const DayCounts* days, const OpenCount* open);
void aside_add_member(TenantBlock* block, const AsideMember* member);
void aside_sort(TenantBlock* block);
// Those without turns in flight go.
void aside_drop_idle(TenantBlock* block);
bool rep_in_flight(const DayCounts* days, const OpenCount* open);

// The counts of the rep and of the pool's member, in the block or aside; NULL: not there.
DayCounts* block_rep_days(TenantBlock* block, int64 rep, bool aside = true);
OpenCount* block_rep_open(TenantBlock* block, int64 rep, bool aside = true);
MemberState* block_member_state(TenantBlock* block, int32 pool, int64 rep, bool aside = true);

// Leads used on that day, or PG_INT32_MAX when the day lies before what is known.
int32 days_used(const DayCounts* days, DateADT day);
// Adds to a day's counts (negative: takes back). Forgets the oldest day when there is no room.
void days_add(DayCounts* days, DateADT day, int32 used, int32 in_flight);

// Why this member may not take a lead on its rep's present day; State::turn: it may.
core::State member_state(TenantBlock* block, int32 member, const ZoneDays* zones);
// Parks or joins the member (or all of the rep's) as member_state() says now.
void member_refresh(TenantBlock* block, int32 member, const ZoneDays* zones);
void rep_refresh(TenantBlock* block, int32 rep, const ZoneDays* zones);

// The member's start tag less what its turns received have moved it by. Picks and refunds leave it
// as it is; only leaving and joining change it. So the latest row of a member and the number of its
// rows tell its start tag, whichever turns were in flight when that row was written.
double block_tag(TenantBlock* block, int32 member);

// Charges `turns` leads on `day`: pool id, 0 for none. Negative turns are given back in full.
// Members that reach their cap by it are parked, those that come below it again join.
// `extra` is what they cost beyond one turn each.
void block_charge(TenantBlock* block, int32 pool, int64 rep, DateADT day, int32 turns,
                  const ZoneDays* zones, int64 extra = 0);
// The same of a rep and member of the block by index, member -1 for none.
void block_charge_at(TenantBlock* block, int32 rep, int32 member, DateADT day, int32 turns,
                     const ZoneDays* zones, int64 extra = 0);
// The charged turns have landed: they stay used and are no longer in flight.
void block_settle(TenantBlock* block, int32 pool, int64 rep, DateADT day, int32 turns,
                  int64 extra = 0);

// Tells the rep's pools that go by open leads how many it has now.
void rep_load_changed(TenantBlock* block, int32 rep);
// Changes a rep's open leads, and nothing of who is eligible.
void rep_open_add(TenantBlock* block, int32 rep, int32 used, int32 in_flight);

// What a transaction holds until it ends: kept when it commits, dropped when it aborts.
struct Held {
    core::Effect effect;
    int32 pool;
    int64 rep;
    DateADT day;
    int32 turns;
    int64 extra = 0; // what they cost beyond one turn each
};
void block_keep(TenantBlock* block, const Held* held, const ZoneDays* zones);
void block_drop(TenantBlock* block, const Held* held, const ZoneDays* zones);
