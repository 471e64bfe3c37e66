// One lead's decision: match its rules, pick a rep, say what the record has to hold.
#pragma once

#include "leadroute.h"

#include "lead.h"
#include "record.h"

// What came of the lead's contact (sticky.h).
enum class StickyStep {
    off,     // its table has no sticky_on
    none,    // it has no contact
    failed,  // the expression raised an error: the first of the failures, of rule 0
    unknown, // nobody has had the contact
    known,   // somebody has
    gone     // the rep who had it does not exist any more
};

struct Decision {
    RecordRow row;
    const Rule* rule; // that matched, or NULL; valid until the rules are next asked for
    TenantSlot* slot; // charged, or NULL
    bool assigned;
    bool to_claim;   // not assigned: it waits for a member of a pool to claim it
    bool sets_owner; // the owner column is to be written
    Datum owner;
    StickyStep sticky;
    const char* alert; // kind to raise, or NULL
    const char* alert_message;
    RuleFailures failures;
};

// Routes the lead to the known owner of its contact, else by its tenant's rules. Charges the turn;
// writes nothing.
void decide(LeadTable* table, TenantRules* rules, const Lead* lead, Decision* decision);
// What the record says of a lead now.
struct Standing {
    bool has_rep;
    bool given;       // by a person, or as the known owner of its contact: not by rules
    int64 rule;       // 0: none
    int32 pool;       // 0: none
    int64 rep;        // 0: none
    int32 asked_pool; // the first that was asked for a taker; 0: a rule's own rep was, or nobody
    Datum needs;      // of one that waits, text[]; 0: none
    Datum avoid;      // bigint[]: reps who do not get it again; 0: none
    bool at_front;    // of one that waits
    bool offered;     // it is offered to members of its pool
    bool offer_over;  // it was, and the time is over
    bool offer_ends;  // ... which nobody has seen to yet
    int32 hops;       // how often it was taken from a rep who missed it
    bool pool_bound;  // it is for its pool, whatever its rule says
};
// Decides anew for a lead that waits, or whose columns changed. False: it stays where it is, since
// the rule that gave it to its rep is still the one that matches, with the same target and no
// need that the rep does not meet, or since it would wait in the
// same queue again; then nothing is charged or counted.
bool decide_again(LeadTable* table, TenantRules* rules, const Lead* lead, const Standing* standing,
                  const char* method, Decision* decision);

// Takes a lead from the rep who has it (sla_route.cpp): by its rules, or to another pool.
struct Reroute {
    int32 pool; // id; 0: as the rules say
    bool bound; // it is for this pool from now on
};
// Decides for a lead whose `standing` says who is not to get it again. It waits when nobody takes
// it.
void decide_reroute(LeadTable* table, TenantRules* rules, const Lead* lead,
                    const Standing* standing, const Reroute* how, Decision* decision);

// What decide() would say next, on copies: charges, counts, raises and writes nothing. `rules` are
// of lead_table_rehearse().
void decide_rehearse(LeadTable* table, TenantRules* rules, const Lead* lead, CandidateVisitor visit,
                     void* context, Decision* decision);
// Records that the app named the owner itself; with `rules` not NULL its contact, too.
void decide_given(LeadTable* table, TenantRules* rules, const Lead* lead, Datum owner,
                  Decision* decision);
// Lets the lead wait in `unmatched`: there is no shared memory to count in, or somebody took the
// owner away again.
void decide_unowned(LeadTable* table, const Lead* lead, Decision* decision);
// Raises what the decision found wrong; after the lead is done with.
void decide_alerts(const LeadTable* table, const Lead* lead, const Decision* decision);
