// The turn of a member who takes a lead himself: by the same counts and caps as those that the
// engine gives out, under the same lock. See pick.h.
#pragma once

#include "leadroute.h"

#include "pick.h"

// Why a rep gets no lead, or none of this kind.
enum class ClaimBar {
    none,
    memory_full,
    no_rep,
    no_pool,
    no_member,
    rep_paused,
    member_paused,
    signed_out,
    unskilled, // for this lead's needs
    no_ref,    // for this lead table's owner column
    open_cap,
    rep_cap,
    member_cap,
};

struct ClaimPick {
    Pick pick; // with bar none
    ClaimBar bar;
    int32 used, cap; // of the cap that bars
};

// Charges the member of the request's pool, who is the request's rep, with a lead of these needs;
// working hours and absences are no bar: who takes a lead is there. It takes a turn of the pool,
// due to all members as one that the pool gives out.
void pick_claim(const PickRequest* request, ClaimPick* result);
// Whether that would be barred now; charges nothing. Shared memory that is full is no bar.
ClaimBar claim_bar(const PickRequest* request);
