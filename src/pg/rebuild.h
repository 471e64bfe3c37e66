// Filling a block with counts; see rebuild.cpp.
#pragma once

#include "tenant.h"

extern "C" {
#include "storage/lock.h"
}

// Counts everything from the record into a block in which nothing was given out yet. Results that
// the caller needs (pending charges, the highest ticket) are left in *recount.
void count_all(Recount* recount, const TenantKey* key, TenantBlock* block,
               const Checkpoint* checkpoint, bool keep_pending);
// Starts the queues of a block in which nothing was counted: nobody is owed anything.
void start_level(TenantBlock* block, const ZoneDays* zones);
// Counts only the reps and members that `from` does not know.
void count_new(Recount* recount, const TenantKey* key, TenantBlock* block, TenantBlock* from,
               const Checkpoint* none, bool keep_pending);

// Counts the open leads of the reps that are marked into a block in which nothing was counted yet.
void count_open(const TenantKey* key, TenantBlock* block, const bool* reps);

// Are the open leads of all reps that `wanted` is to count counted in `known`, as far as it has
// them?
bool open_counts_known(TenantBlock* known, TenantBlock* wanted);
// Makes them known there (open_counts.cpp). `wanted` is used up by it.
void open_counts_read(TenantSlot* slot, const TenantKey* key, TenantBlock* wanted);
// The lock that a load of the tenant holds.
void load_lock_tag(LOCKTAG* tag, const TenantKey* key);

struct CarryScratch {
    double* deficit;
    bool* returning;
};
CarryScratch carry_scratch(const TenantBlock* to);
// Takes over the counts of all that `from` knows, in flight included, and starts the queues.
void carry_over(TenantBlock* to, TenantBlock* from, const CarryScratch* scratch,
                const ZoneDays* zones);
