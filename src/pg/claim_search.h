// The way to the next lead of a queue: along its cursor, and else along its index.
#pragma once

#include "leadroute.h"

#include "claim_cursor.h"

enum class ClaimTry {
    taken,
    unfit, // not for this rep now, but perhaps for another
    gone,  // claimed, ended, or held by somebody
    stop   // not for this rep now, nor is any other of the queue
};
// Looks at a row of the record, as of now, and takes it if it can, without waiting for anybody.
typedef ClaimTry (*ClaimTaker)(void* context, ItemPointer row);

// Offers the rows of a queue to `take` in their order (with any_order at first one out of the next)
// until one is taken. False: none was, after all that are to be seen now were offered; those that
// others hold count as not there. May wait, which can be cancelled, for another session that reads
// the queue. Writes nothing. Where many leads are not for the rep, those at the front are offered
// to it anew after a second only, or when something has changed.
bool claim_search(const ClaimQueue* queue, int64 rep, TimestampTz now, bool any_order,
                  ClaimTaker take, void* context);

// Where the first row of a queue stands that is to be seen now; false: there is none.
bool claim_head(const ClaimQueue* queue, ClaimPlace* place);
