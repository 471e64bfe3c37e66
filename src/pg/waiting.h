// What the record keeps of a lead that waits, so that whoever claims it evaluates no rule.
#pragma once

#include "leadroute.h"

#include "lead.h"
#include "record.h"
#include "skills.h"

// The lead's needs (NULL: none), in the current memory context, for RecordRow.needs: each as
// `skill`, or `skill>=level` where the level is another than 1.
Datum waiting_needs(const Needs* needs);
// The lead's score, into the row.
void waiting_score(const LeadTable* table, const Lead* lead, RecordRow* row);
// Whom the lead is offered to and until when, into a row whose decided_at is known.
void waiting_offer(const Pick* picked, RecordRow* row);
// Are two lists of needs the same?
bool waiting_same_needs(Datum a, Datum b);
