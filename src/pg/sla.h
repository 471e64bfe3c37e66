// First-touch policies in a tenant's block: what a pick needs to say when the lead's first touch is
// due, and when the policy's first step is. So an insert reads no table for it; where a time lies
// beyond the hours that the block knows, sla_far() asks the tables.
#pragma once

#include "leadroute.h"

#include "block.h"

struct Pick;
struct PickRequest;
struct RecordRow;

// Of configuration, sorted by id. The shifts of policies: availability.h.
struct SlaRows {
    SlaPolicy* policies;
    RulePolicy* rules; // that name one
    int32 count, rule_count;
};
// Reads them in the SPI connection and snapshot at hand; the rows live in `context`.
void sla_read(int64 tenant, SlaRows* out, MemoryContext context);
// Fills a formatted block.
struct Availability;
void sla_fill(TenantBlock* block, const SlaRows* from, const Availability* availability);

// --- in a block; nothing here locks, allocates or raises ---

// Which policy counts for a lead that this rep receives from this pool (indexes, -1: none): the
// request's (its rule's), else the rep's, else the pool's, else the request's other one (the lead
// table's); of a lead that is bound to its pool the pool's first. Its id; 0: none.
int32 sla_policy_for(TenantBlock* block, const PickRequest* request, int32 rep, int32 pool);
// Starts the clock of the pick's policy at `at`. Of business time beyond the block's horizon it
// says DT_NOEND.
void sla_start(TenantBlock* block, int32 rep, TimestampTz at, Pick* pick);

// --- beside it ---

// A time after an assignment; it has no months.
inline int64 sla_microseconds(const Interval* after) {
    return after->time + after->day * USECS_PER_DAY;
}

// What a pick says of the clock, for the record. Reads tables where the block did not know enough.
void sla_record(const Pick* pick, RecordRow* row);

// The policy of this name, 0: there is none. Within SPI, under the active snapshot.
int32 sla_policy_id(int64 tenant, const char* name);
// The same outside of it, as this transaction sees it now.
int32 sla_policy_now(int64 tenant, const char* name);
