// A rep takes a lead himself: claim(), claim_next().
//
// The lead's row is locked, then its record read: whoever has the lock decides. The turn is charged
// by the same counts as those that the engine gives out, the record tells the claim, and the lead's
// owner follows with the rights of the lead table's owner.
#pragma once

#include "leadroute.h"

#include "claim_lead.h"
#include "claim_terms.h"
#include "pick_claim.h"
#include "record_end.h"

// Why a lead, or any, is not the rep's to claim; leadroute._refuse_claim() says it in words.
struct ClaimRefusal {
    const char* why; // as that function names it
    bool of_pool;    // so it is for every lead of the pool
    bool of_rep;     // so it is for every lead
    int32 pool;
    int32 used, cap;
    TimestampTz until; // DT_NOBEGIN: not by time
};

enum class ClaimOutcome {
    taken,
    locked,  // somebody has it locked, or it is no more
    gone,    // it is not there to be claimed: taken, closed, moved to another queue
    unfit,   // not for this rep, or not yet
    refused, // no lead of this pool, or none at all
};

struct ClaimRequest {
    const ClaimTerms* terms;
    ClaimTable* table;
    ClaimKey key;
    bool next;              // by claim_next(): waits for no lock, leaves out what the rep gave up
    int32 pool;             // where claim_next() found it
    bool tank;              // ... in its shark tank
    ItemPointer row;        // ... and its row of the record; NULL: it is looked for
    const Episode* episode; // ... as it was before the lead was locked
};

struct ClaimResult {
    ClaimRefusal refusal;   // unless taken
    Tuplestorestate* shown; // to which the episode is added
};

// Takes the lead for the rep if it may; in a short transaction of one lead, or with many. Nothing
// is charged or changed unless it is taken, but the lead may stay locked.
ClaimOutcome claim_take(const ClaimRequest* request, ClaimResult* result);
// Whether it would be, as far as can be told without locking it.
ClaimOutcome claim_judge(const ClaimRequest* request, const Episode* episode, ClaimResult* result);

ClaimOutcome claim_say(ClaimResult* result, ClaimOutcome outcome, const char* why, int32 pool);

// Raises the refusal; key NULL: of no lead in particular.
[[noreturn]] void claim_refuse(const ClaimTerms* terms, const char* level, const ClaimTable* table,
                               const char* key, const ClaimRefusal* refusal);
// Begins the result of claim() or claim_next().
ReturnSetInfo* claim_rows(FunctionCallInfo fcinfo);
// LR008 where the argument of these numbers, the rep's or the tenant's, is NULL.
void claim_refuse_null(FunctionCallInfo fcinfo, int rep, int tenant);
