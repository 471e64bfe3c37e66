// Picking a rep: one hold of the tenant's lock decides and charges. See block.h for what a charge
// is and transaction.h for how it is kept or given back.
#pragma once

#include "leadroute.h"

#include "shared.h"
#include "tenant.h"

// What the lead table's owner column needs of a rep.
enum class RefNeed { none, text, uuid };

struct PickRequest {
    const TenantKey* key;
    int32 pool;          // target pool's id, 0: the target is a rep
    int64 rep;           // target rep, 0: the target is a pool
    int32 overflow_pool; // the rule's, 0: none
    RefNeed ref;
    TimestampTz now;
    const Needs* needs;        // NULL: none
    const core::Spot* place;   // of the lead; NULL: not known
    bool known_owner = false;  // the target rep is the known owner of the lead's contact
    double value = 0;          // of the lead; 0: not known
    const int64* avoid = NULL; // reps who do not get the lead again
    int32 avoid_count = 0;
    int32 push_pool = 0;     // id of a pool that gives this lead out, whatever its mode
    int32 sla = 0;           // policy of the lead's rule, id; 0: it names none
    int64 sla_rule = 0;      // or the rule itself, where only its id is known
    int32 table_sla = 0;     // of its lead table, where nobody else names one
    bool pool_bound = false; // the lead is for this pool by a policy, whose sla counts first
};

struct Pick {
    bool found;
    bool overflowed; // the taker, or the pool where it waits, is not the rule's own target
    bool memory_full;
    int32 waits_in; // not found: id of the pool, not of mode push, where it waits; 0: none
    // who may claim it there and is told so; valid until the next pick
    const int64* offered_to;
    int32 offered_count;
    int64 offer_window; // microseconds, 0: the offer has no end
    int64 rep;
    int32 pool; // id of the pool that gave the rep, 0: none
    DateADT day;
    TimestampTz decided_at; // 0: the request's
    int32 rep_cap;          // in force, kNoCap: none
    int32 member_cap;
    int32 open_cap;
    double deficit; // of the member, after this turn
    double tag;     // block_tag() of the member
    int64 extra;    // what the turn cost beyond one
    int64 ticket;
    int32 sla; // policy's id; 0: none, and nothing is due
    TimestampTz due_at;
    TimestampTz next_step_at;
    TenantSlot* slot; // charged; NULL: a draft's own copy alone was
};

// More members than this are not told of one offer; all may claim it.
constexpr int32 kMostOffered = 1000;

// Finds a taker: the target, else the rule's overflow pool, else the pools' own overflow chains.
// Charges the turn, notes it for this transaction and fills in the explanation.
void pick(const PickRequest* request, Pick* result, core::Explanation* explanation);

// What a rehearsal tells of each member that was asked, in the order of asking; pool 0: a rule's
// own rep, -1: a contact's known owner.
typedef void (*CandidateVisitor)(void* context, int32 pool, core::Measure measure,
                                 const core::Candidate* candidate);
// The pick that would come next, on copies: charges nothing and changes nothing. With `visit` every
// member of each pool asked is told, and a pool without members as a candidate of rep 0.
void pick_rehearse(const PickRequest* request, Pick* result, core::Explanation* explanation,
                   CandidateVisitor visit, void* context);

// The pick in a private block, where the turn is charged and kept; nothing else knows of it.
struct TenantBlock;
void pick_private(TenantBlock* block, const PickRequest* request, Pick* result,
                  core::Explanation* explanation);

// The same for what happened: the member of request->pool whose rep is request->rep has the turn,
// which costs `extra` beyond 1 and counts for `day`.
void pick_repeat(TenantBlock* block, const PickRequest* request, DateADT day, int64 extra);

// Charges a lead that somebody else gave to a rep: counts as used whatever the cap. found is false
// when the rep is not known here; then nothing is charged.
// The policy is that of `sla`, else the rep's, else that of `table_sla`.
void pick_given(const TenantKey* key, int64 rep, TimestampTz now, int32 sla, int32 table_sla,
                Pick* result);

// Whether the rep, wherever it is a member, has the skills.
bool pick_has_skills(const TenantKey* key, int64 rep, const Needs* needs);
