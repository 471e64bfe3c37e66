// Telling the claim cursors of leads that come to a queue.
#pragma once

#include "leadroute.h"

#include "record.h"

// A row of the record is written: when its lead waits in a pool, the others learn of it at commit.
void claim_arrival_note(const RecordRow* row);
