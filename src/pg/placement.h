// Which physical relation holds the record of the leads in a physical relation. On one machine
// there is one, leadroute.assignment. On a distributed engine it is the sibling shard, and a
// tenant's record may be on another node: SQL function leadroute.placement() says both, so
// replacing that function is all it takes. Everything else asks here.
#pragma once

#include "leadroute.h"

Oid leadroute_schema(void); // LR002-free: InvalidOid when the extension is not there

// The assignment relation for leads in `lead` (InvalidOid: no lead at hand, the tenant's own).
// Error: LR016 when this tenant is served by another node.
Oid placement(Oid lead, int64 tenant);
