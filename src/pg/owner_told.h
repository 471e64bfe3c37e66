// What the record knows already of a change of an owner that is on its way.
//
// claim(), reassign(), release(), route() and the backlog write the record first and the lead then.
// Of exactly that change the trigger follow_owner() has nothing to do; said here it need not ask.
#pragma once

#include "leadroute.h"

struct OwnerTold {
    int32 attachment;
    int64 tenant;
    const char* key;
    const char* owner; // as text; NULL: none
    OwnerTold* outer;
};

// From here to the end, and in no other statement, this change of this lead is told. Has to be
// ended on errors, too (PG_FINALLY).
void owner_told_begin(OwnerTold* told);
void owner_told_end(const OwnerTold* told);
