// Episodes of the record read and ended without SQL: those of leads that wait, which nothing in
// shared memory counts. (What a rep has is ended by SQL: triggers of the record free its capacity.)
#pragma once

#include "leadroute.h"

struct RecordRow;

// An episode as the record has it. What it points to is in the memory context it was read in.
struct Episode {
    HeapTuple row;
    Oid assignment;
    int64 tenant;
    int32 lead_table;
    int32 number;
    const char* lead_id;
    int64 rep; // 0: none
    int64 rule;
    int32 pool; // 0: none
    TimestampTz decided_at;
    const char* method;
    Datum label;  // 0: none
    Datum needs;  // text[], 0: none
    Datum avoid;  // bigint[], 0: none
    double score; // has_score
    int64 contact;
    int32 tank_pool; // 0: not in the shark tank
    bool has_score, has_contact;
    bool pool_bound;
    int32 rule_version;
    int32 hops; // 0: none
    bool given; // somebody gave or released it by hand
    bool touched;
    bool ended;
};

// Does it wait in a queue?
inline bool episode_waits(const Episode* episode) {
    return episode->rep == 0 && strcmp(episode->method, "manual") != 0;
}

// The lead's open episode, as this transaction sees the record now. False: it has none.
bool episode_read(Oid assignment, int64 tenant, int32 lead_table, const char* lead_id,
                  Episode* episode);
// The same of a row that was found; false: it is not an open episode any more.
bool episode_fetch(Oid assignment, ItemPointer row, Episode* episode);
// Reads a row of the record from a slot.
void episode_take(Oid assignment, TupleTableSlot* slot, Episode* episode);
// What the next episode carries along, but for the rep's part.
void episode_carry(const Episode* episode, RecordRow* row);
// Ends an episode that waits, and says the next one's number. False: another transaction has
// changed it meanwhile, nothing was done.
bool episode_end(const Episode* episode, const char* reason, TimestampTz at, int32* next);
// Whether a bigint[] has the value; an array of 0 has none.
bool array_has(Datum array, int64 value);
