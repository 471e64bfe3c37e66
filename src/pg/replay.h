// Replaying history: the leads of a table, in the order in which they arrived, through the rules,
// pools and reps as this transaction sees them.
//
// replay_read.cpp reads the record (as leadroute's owner) and the leads (as the caller),
// replay_walk.cpp goes through them in order of time on a private block, and replay.cpp gives the
// result. Nothing outside this memory changes.
#pragma once

#include "leadroute.h"

#include "block.h"
#include "lead.h"

// An episode of the record.
struct Past {
    TimestampTz at;
    TimestampTz ended_at;    // DT_NOEND: it is open
    TimestampTz credited_at; // DT_NOEND: its turn counts
    int64 rep;               // 0: it waited
    int64 rule;              // 0: none
    int64 contact;           // has_contact
    double cost;
    DateADT day; // has_day
    int32 pool;  // id, 0: none
    int32 life;
    bool manual, sticky;
    bool has_day, has_contact, credits_day;
};

// A lead from its arrival to its end: episodes that follow each other.
struct Life {
    const char* lead_id;
    HeapTupleHeader row; // the lead as it is now; NULL: it is not there, or not of this table
    int32 first, count;  // its episodes
    bool ours;           // of the lead table at hand
    bool in_time;        // arrived between since and until
    // what the replay made of it
    bool decided;
    bool as_then;  // it is where it was then, so what came later came to it, too
    bool is_known; // its contact is, and that decided
    int64 rep;     // 0: it waits
    int64 rule;
    int32 pool;
    double value;       // 0: not known
    const char* filled; // what of the rep's it filled: "daily cap", "capacity"
    const char* reason; // why it is elsewhere now
};

enum class Step : uint8 { end, credit, start }; // at the same time in this order
struct Event {
    TimestampTz at;
    int32 past;
    Step step;
};

struct ReplayName {
    int64 id;
    const char* name;
};

struct Replay {
    Relation relation;
    LeadTable* table;
    TenantKey key;
    TimestampTz since, until; // DT_NOBEGIN, DT_NOEND: all
    Past* pasts;
    int32 past_count;
    Life* lives;
    int32 life_count;
    Event* events;
    int32 event_count;
    int32 missing;     // leads of the table's record that are not there any more, or not to be seen
    ReplayName* rules; // by id
    int32 rule_count;
    ReplayName* pools;
    int32 pool_count;
};

// Reads what the walk needs, into the current memory context. Raises what reading the lead table as
// the caller raises.
void replay_read(Replay* replay);
// Decides for each lead that arrived in time, and says why it is elsewhere now.
void replay_walk(Replay* replay);
// Why a lead is not where it was then (replay_words.cpp).
const char* replay_reason(const Replay* replay, TenantBlock* block, const Life* life,
                          const ZoneDays* zones);
