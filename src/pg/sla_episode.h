// Episodes of the record whose next step is due: finding them, and writing what became of them.
#pragma once

#include "leadroute.h"

enum SlaColumn {
    S_TENANT,
    S_LEAD_TABLE,
    S_LEAD_ID,
    S_EPISODE,
    S_REP,
    S_RULE,
    S_POOL,
    S_METHOD,
    S_DECIDED_AT,
    S_DAY,
    S_COST,
    S_SLA,
    S_DUE_AT,
    S_NEXT_STEP_AT,
    S_STEPPED,
    S_BREACHED_AT,
    S_TOUCHED_AT,
    S_ENDED_AT,
    S_END_REASON,
    S_HOPS,
    S_POOL_BOUND,
    S_AVOID,
    S_TANK_POOL,
    S_TANK_AT,
    S_CREDITED_AT,
    S_CREDITED_BY,
    S_CREDIT_REASON,
    S_CREDIT_DAY,
    S_CREDIT_TICKET,
    kSlaColumns
};

// The record as one transaction meets it.
struct SlaRecord {
    Oid assignment;
    TupleDesc columns;
    AttrNumber column[kSlaColumns];
};
void sla_record_open(SlaRecord* record);

// What it points to is in the memory context that it was read in.
struct SlaEpisode {
    ItemPointerData row;
    Datum* values; // of all columns
    bool* nulls;
    int64 tenant;
    const char* lead_id;
    int64 rep; // 0: none
    int64 rule;
    TimestampTz decided_at;
    TimestampTz due_at; // DT_NOEND: never
    TimestampTz next_step_at;
    TimestampTz found_at; // the same when it was found
    int64 stepped;        // microseconds
    Datum avoid;          // bigint[], 0: none
    int32 lead_table;
    int32 number;
    int32 pool; // 0: none
    int32 sla;  // policy's id, 0: none
    int32 hops;
    bool pool_bound;
    bool manual;
    bool breached;
    bool waits_for_step; // it is open, not touched, and has a next step
};

// Which ones to find: those due from one moment until another, of these tenants (NULL: all),
// without those that were passed over.
struct SlaSearch {
    TimestampTz from, until;
    const int64* tenants;
    int tenant_count;
    HTAB* passed; // by sla_lead_key()
};
uint64 sla_lead_key(const SlaEpisode* episode);
// The longest due first, at most so many.
int sla_find(const SlaRecord* record, const SlaSearch* search, int most, SlaEpisode* found);

// For many leads of one subtransaction; what it opens belongs to it, and to the memory context that
// it is opened in.
struct SlaReader {
    Relation record;
    MemoryContext context;
    TupleTableSlot* slot;
    IndexScanDesc past; // of ended episodes; made when first needed
};
void sla_reader_open(const SlaRecord* record, SlaReader* reader);
void sla_reader_close(SlaReader* reader);
// Whether the row found is still the record of its lead; else it is read anew. False: the lead has
// no open episode any more.
bool sla_episode_now(const SlaRecord* record, SlaReader* reader, SlaEpisode* episode);

// A copy with columns of its own to be written, in the memory context at hand.
void sla_copy(const SlaRecord* record, const SlaEpisode* from, SlaEpisode* to);
// Sets a column of the row to be written.
void sla_set(const SlaRecord* record, SlaEpisode* episode, SlaColumn column, Datum value);
void sla_unset(const SlaRecord* record, SlaEpisode* episode, SlaColumn column);
// Writes it. An error when another transaction has changed the row meanwhile.
void sla_write(const SlaRecord* record, SlaEpisode* episode, bool ended);

// The lead's ended episodes: the highest number, 0 where there is none, and the reps who missed it,
// the latest first.
struct SlaPast {
    int32 last_number;
    int missed_count;
    int64* missed;
};
void sla_past(const SlaRecord* record, SlaReader* reader, const SlaEpisode* episode, SlaPast* past);
