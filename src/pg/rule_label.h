// A rule's label: which of the lead's columns it sets, and to what.
#pragma once

#include "leadroute.h"

// Columns that leadroute itself goes by; a label may not set them.
struct ReservedColumns {
    const char* key;
    const char* owner;
    const char* tenant; // NULL: none
};

// One key of a label that is also the name of a column of the lead.
struct LabelValue {
    AttrNumber attribute;
    char* text; // NULL: null
};

// Those of a label, in the current memory context.
LabelValue* label_values(Relation lead, Jsonb* label, int* count);

// The value as the column's type has it, by its input function. Raises LR005 where the column may
// not be set by a label, and the type's own error where it refuses the value.
Datum label_convert(Relation lead, const ReservedColumns* reserved, const LabelValue* value);
