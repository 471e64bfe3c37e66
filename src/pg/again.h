// Routing a lead that is there already: one that waits, or whose columns changed.
#pragma once

#include "leadroute.h"

#include "decide.h"

// What the record says of the lead now; false: it has no open episode.
bool standing_read(const LeadTable* table, const Lead* lead, Standing* standing);

// True for a lead without an open episode that has come here from another partition in this
// transaction: it is closed, or left alone since attach().
bool standing_moved(const LeadTable* table, const Lead* lead);

// Ends the lead's open episode for this reason and writes the row as its next one.
void record_next(RecordRow* row, const char* reason);

// Columns that a decision sets on its lead. Memory for MaxTupleAttributeNumber of each.
struct ColumnValues {
    int count;
    int* column;
    Datum* value;
    bool* isnull;
};
// The owner (null where the lead is to wait, if `clears`) and the rule's label.
void decision_columns(const LeadTable* table, const Decision* d, bool clears,
                      ColumnValues* columns);
// The same as text for an UPDATE: `column = 'value', ...`, and the owner's value.
void decision_texts(const LeadTable* table, const Lead* lead, const Decision* d, Datum* values,
                    bool* nulls);
