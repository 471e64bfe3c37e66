// Counts kept aside in a block; see block.h.
#include "block.h"

static int compare_reps(const void* a, const void* b) {
    int64 x = static_cast<const AsideRep*>(a)->id, y = static_cast<const AsideRep*>(b)->id;
    return x < y ? -1 : (x > y ? 1 : 0);
}

static int compare_members(const void* a, const void* b) {
    const AsideMember* x = static_cast<const AsideMember*>(a);
    const AsideMember* y = static_cast<const AsideMember*>(b);
    if (x->pool != y->pool)
        return x->pool < y->pool ? -1 : 1;
    return x->tag.id < y->tag.id ? -1 : (x->tag.id > y->tag.id ? 1 : 0);
}

AsideRep* aside_find_rep(TenantBlock* block, int64 id) {
    AsideRep key = {};
    key.id = id;
    return static_cast<AsideRep*>(
        bsearch(&key, block->aside_rep(0), block->aside_rep_count, sizeof(AsideRep), compare_reps));
}

AsideMember* aside_find_member(TenantBlock* block, int32 pool, int64 rep) {
    AsideMember key = {};
    key.pool = pool;
    key.tag.id = rep;
    return static_cast<AsideMember*>(bsearch(&key, block->aside_member(0),
                                             block->aside_member_count, sizeof(AsideMember),
                                             compare_members));
}

void aside_add_rep(TenantBlock* block, int64 id, const DayCounts* days, const OpenCount* open) {
    if (block->aside_rep_count < block->aside_rep_room)
        *block->aside_rep(block->aside_rep_count++) = {id, *days, *open};
}

void aside_add_member(TenantBlock* block, const AsideMember* member) {
    if (block->aside_member_count == block->aside_member_room)
        return;
    *block->aside_member(block->aside_member_count++) = *member;
    block->aside_turns = Max(block->aside_turns, member->tag.last_turn);
}

void aside_sort(TenantBlock* block) {
    qsort(block->aside_rep(0), block->aside_rep_count, sizeof(AsideRep), compare_reps);
    qsort(block->aside_member(0), block->aside_member_count, sizeof(AsideMember), compare_members);
}

void aside_drop_idle(TenantBlock* block) {
    int32 reps = 0, members = 0;
    for (int32 i = 0; i < block->aside_rep_count; i++)
        if (rep_in_flight(&block->aside_rep(i)->days, &block->aside_rep(i)->open))
            *block->aside_rep(reps++) = *block->aside_rep(i);
    for (int32 i = 0; i < block->aside_member_count; i++)
        if (block->aside_member(i)->state.in_flight != 0)
            *block->aside_member(members++) = *block->aside_member(i);
    block->aside_rep_count = reps;
    block->aside_member_count = members;
}

bool rep_in_flight(const DayCounts* days, const OpenCount* open) {
    int32 turns = 0;
    for (int32 i = 0; i < days->count; i++)
        turns += days->slot[i].in_flight;
    return turns != 0 || open->in_flight != 0 || open->ending != 0;
}
