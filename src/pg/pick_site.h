// A pick while the tenant's lock is held; shared by pick.cpp, which decides, and pick_explain.cpp,
// which says why.
#pragma once

#include "pick.h"

// The nearest few places of a pool with somebody available.
constexpr int kNearPlaces = 5;
struct NearPlace {
    int32 lane;
    double distance; // chord2()
};

// Where a pick takes place: the block, and for a transaction's private block the shared one beside
// it, whose counts say what the others have used meanwhile.
struct Site {
    TenantBlock* block;
    bool draft;
    TenantBlock* beside; // of a draft: the shared one, or NULL when that is not loaded
    const PickRequest* request;
    const ZoneDays* zones;
    core::Explanation* explanation;
    const SkillFilter* skills; // the lead's needs in this block; NULL: none
    int32 taker;               // index of the rep who was picked
    double taken_at;           // what the pick was measured by before its turn was charged
    NearPlace near[kNearPlaces];
    int32 near_count;

    // Of the pool at hand, where not every member that is active may take this lead: those who
    // may, by their place in the pool.
    int64 extra; // what the lead costs there beyond one turn
    bool filter;
    int32* filtered; // room for all members
    int32 filtered_count;
    int32 unskilled; // active ones without the skills
    int32 gave_up;   // active ones with the skills who do not get the lead again

    int32 offer_end; // of those who are offered the lead: the last one's place

    CandidateVisitor visit; // of a rehearsal
    void* context;
};

inline bool lacks_ref(const RepState* rep, RefNeed need) {
    return (need == RefNeed::text && !rep->has_ref) || (need == RefNeed::uuid && !rep->ref_is_uuid);
}

// The pool's next member by its method, and by the filter if there is one, as its index in the
// pool, or -1.
int32 next_member(Site* site, PoolState* pool);
// The first `max` members in the order in which the method would take them now, as
// FairQueue::upcoming(); of the places that are nearest, one each.
int32 upcoming_members(Site* site, PoolState* pool, int32* out, int32 max);
// What the lead costs beyond one turn in a pool that goes by value: what it is worth, or where that
// is not known as much as the pool's leads so far on average.
int64 lead_extra(Site* site, const PoolState* pool);
// What the method compares members by, and a member's measure now.
core::Measure pool_measure(const Site* site, const PoolState* pool);
double member_measure(Site* site, PoolState* pool, int32 member);
// Is the member, who could take the lead, of a tier after that of the pick? How many are?
bool of_later_tier(Site* site, const PoolState* pool, int32 member, int32 picked);
int32 later_tier_count(Site* site, const PoolState* pool, int32 picked);
// Whether some lead of this kind may be for some of a pool's members only.
inline bool may_filter(const PickRequest* request) {
    return request->ref != RefNeed::none || request->needs != NULL || request->avoid_count > 0;
}
inline bool gave_lead_up(const PickRequest* request, int64 rep) {
    for (int32 i = 0; i < request->avoid_count; i++)
        if (request->avoid[i] == rep)
            return true;
    return false;
}
inline bool lacks_skills(const Site* site, int32 rep) {
    return site->skills != NULL && !rep_has_skills(site->block, rep, site->skills);
}
// pick_filter.cpp: once in a block, before all else; whether the pool needs a filter; and the
// filter. With needs that few reps meet, only those few are looked at.
void filter_prepare(Site* site);
bool takes_filter(const Site* site, const PoolState* pool);
void filter_members(Site* site, PoolState* pool);
// Where those who gave the lead up are all that keeps it from being everybody's: they step out of
// the pool's turns until leave_in(), which costs a few steps for each of them and not one for each
// member. False, and nothing is done: it takes the filter. site->gave_up counts them.
bool leave_out(Site* site, PoolState* pool);
void leave_in(Site* site, PoolState* pool);

// Begins to tell of a pool (0: a rule's own rep) that is asked for a taker; NULL: there is no room.
core::Tried* explain_start(core::Explanation* explanation, int32 pool, int32 members);
// Tells what asking the pool came to: picked is the member's index in the block, or -1.
void explain_pool(Site* site, int32 pool_index, int32 picked);
// Why a member was, or was not, the one to receive the lead.
void describe_member(Site* site, core::Candidate* candidate, int32 member, int32 picked);

// pick_offer.cpp: finds whom the lead is offered to, and tells of it; false: nobody may take it.
bool offer_to_members(Site* site, PoolState* pool, Pick* result);
// pick.cpp: asks those members anew whom the clock alone may have made eligible, or not any more.
void pool_recheck(Site* site, PoolState* pool);

// pick.cpp, for who charges a turn another way. An action decides under the tenant's lock and fills
// in the pick; what it has found is then noted for the transaction. Where shared memory is full the
// action is not called.
typedef void (*Action)(Site* site, Pick* result);
void pick_act(const TenantKey* key, Site* site, Action action, Pick* result);
// Takes over from the shared block what the rep, and the member (-1: none), have used today.
void look_beside(Site* site, int32 rep, int32 member);
void fill_pick(Site* site, Pick* result, int32 member, int32 rep);
// A draft's own turns are never in flight to itself: it ends with its transaction.
void settle_draft(Site* site, const Pick* result);
