// Due times asked of the tables: for what is further off than the hours a block knows, and for what
// is asked outside a pick.
#pragma once

#include "leadroute.h"

struct RecordRow;

// When the row's first touch and its policy's first step are due, from its decided_at on, by the
// tables as this transaction sees them. DT_NOEND: never, in a calendar without hours.
void sla_far(RecordRow* row);

// When so much time (microseconds) has passed since the start under a policy (its id) for a rep.
TimestampTz sla_far_at(int64 tenant, int32 policy, int64 rep, TimestampTz start, int64 after);
