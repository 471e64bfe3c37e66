// The steps of one lead that are due: done in one go, in their order, with the mark that they are.
#pragma once

#include "leadroute.h"

#include "claim_lead.h"
#include "record.h"
#include "sla_episode.h"
#include "sla_policy.h"
#include "sla_tell.h"

// A lead table as one batch meets it.
struct SlaTable {
    SlaTable* next;
    int32 id;
    ClaimTable* leads; // NULL: it is gone, or somebody is about to change it
    Relation relation; // locked as an UPDATE does

    const char* fallback_pool; // or NULL
    int64 manager;             // 0: none
};

// Leads that are seen to in one transaction.
struct SlaBatch {
    SlaKnown* known;
    SlaRecord record;
    SlaReader reader;
    MemoryContext context;      // of the batch
    MemoryContext lead_context; // of one lead
    SlaTable* tables;
    RecordBuffer* buffer; // new episodes
    bool buffers;         // they may be written together
    bool keys_are_new;    // a lead in its first episode had none before under its key
    SlaTold told;
};

struct SlaLead {
    SlaBatch* batch;
    SlaEpisode* episode;     // its row is to be written
    const SlaEpisode* found; // as it was found, for what is told after it
    SlaTenant* tenant;
    const SlaTerms* terms; // NULL: the policy is gone
    SlaTable* table;
    ClaimKey key;
    char* was; // its owner as text, or NULL
    TimestampTz now;
};

enum class SlaOutcome {
    skipped, // it is locked, was touched or has changed
    stepped,
    set_away // the same, and a rep receives no more leads from now on
};
// Leads seen to within one subtransaction, between these two; the second writes what they have left
// to be written, and closes what they have opened.
void sla_begin(SlaBatch* batch);
void sla_flush(SlaBatch* batch);
// Never waits for the lead. Within SPI, as leadroute's owner.
SlaOutcome sla_step(SlaBatch* batch, SlaEpisode* found);

// Taking a lead from a rep who has missed it, for somebody else (sla_move.cpp).
struct SlaMove {
    int32 pool; // id; 0: as the rules say
    bool bound; // for this pool from now on
    bool recycled;
};
// Ends the episode as breached at this time, writes the next one and tells the lead its owner. Says
// where it is now.
const char* sla_move(SlaLead* lead, const SlaMove* move, TimestampTz at);

// Reps who miss their leads (sql/sla_sweep.sql).
bool sla_missed(const SlaEpisode* episode, int32 times);
bool sla_set_away(const SlaEpisode* episode, const SlaTerms* terms);
