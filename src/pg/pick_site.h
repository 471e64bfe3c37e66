// A pick while the tenant's lock is held; shared by pick.cpp, which decides, and pick_explain.cpp,
// which says why.
#pragma once

#include "pick.h"

// Where a pick takes place: the block, and for a transaction's private block the shared one beside
// it, whose counts say what the others have used meanwhile.
struct Site {
    TenantBlock* block;
    bool draft;
    TenantBlock* beside; // of a draft: the shared one, or NULL when that is not loaded
    const PickRequest* request;
    const ZoneDays* zones;
    core::Explanation* explanation;
    int32* filtered;        // scratch for members that may take this lead
    double taken_at;        // what the pick was measured by before its turn was charged
    CandidateVisitor visit; // of a rehearsal
    void* context;
};

inline bool lacks_ref(const RepState* rep, RefNeed need) {
    return (need == RefNeed::text && !rep->has_ref) || (need == RefNeed::uuid && !rep->ref_is_uuid);
}

// The pool's next member by its method, as its index in the pool, or -1; with `filter` one of the
// first `count` of site->filtered.
int32 next_member(Site* site, PoolState* pool, bool filter, int32 count);
// What the method compares members by, and a member's measure now.
core::Measure pool_measure(const PoolState* pool);
double member_measure(Site* site, PoolState* pool, int32 member);
// Is the member, who could take the lead, of a tier after that of the pick? How many are?
bool of_later_tier(Site* site, const PoolState* pool, int32 member, int32 picked);
int32 later_tier_count(Site* site, const PoolState* pool, int32 picked);

// Begins to tell of a pool (0: a rule's own rep) that is asked for a taker; NULL: there is no room.
core::Tried* explain_start(core::Explanation* explanation, int32 pool, int32 members);
// Tells what asking the pool came to: picked is the member's index in the block, or -1.
void explain_pool(Site* site, int32 pool_index, int32 picked);
