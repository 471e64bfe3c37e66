// Filling a block with counts; see rebuild.cpp.
#pragma once

#include "tenant.h"

// Counts everything from the record into a block in which nothing was given out yet. Results that
// the caller needs (pending charges, the highest ticket) are left in *recount.
void count_all(Recount* recount, const TenantKey* key, TenantBlock* block,
               const Checkpoint* checkpoint, bool keep_pending);
// Counts only the reps and members that `from` does not know.
void count_new(Recount* recount, const TenantKey* key, TenantBlock* block, TenantBlock* from,
               const Checkpoint* none, bool keep_pending);

struct CarryScratch {
    double* deficit;
    bool* returning;
};
CarryScratch carry_scratch(const TenantBlock* to);
// Takes over the counts of all that `from` knows, in flight included, and starts the queues.
void carry_over(TenantBlock* to, TenantBlock* from, const CarryScratch* scratch,
                const ZoneDays* zones);
