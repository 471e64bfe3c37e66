// Allowances: how many leads a rep may claim from a pool in a day, and have open at a time, and how
// soon again. What was claimed is counted in the record; for as long as a transaction claims for a
// rep with an allowance no other one does, so that no count is out of date.
#pragma once

#include "leadroute.h"

#include "claim_terms.h"

// Waits for others who claim for the rep, until the end of the transaction. To be called before any
// lead is locked.
void allowance_lock(const ClaimTerms* terms);

struct AllowanceUse {
    const char* which; // claim_daily, claim_open or claim_delay
    int32 used, limit; // of the former two
    TimestampTz until; // DT_NOEND: until a lead ends
};
// False: the rep may not claim from the pool now.
bool allowance_left(const ClaimTerms* terms, const PoolTerms* pool, AllowanceUse* use);
