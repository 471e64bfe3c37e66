// A lead at hand: its row, and the tenant and key by which the record knows it.
#pragma once

#include "leadroute.h"

#include "lead_table.h"

struct Lead {
    Relation relation;
    TupleTableSlot* slot;
    TenantKey key;
    const char* id; // text form of its key
};

// Reads the row in `slot`. The id is valid until the next call. False: the row has no key yet, so
// it cannot be stored either. Error: a tenant that is null.
bool lead_read(const LeadTable* table, Relation relation, TupleTableSlot* slot, Lead* lead);
// The second argument of a function that takes a lead id of any of its types, as text.
char* lead_id_argument(FunctionCallInfo fcinfo);
