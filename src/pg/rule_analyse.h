// What a rule's condition asks of single columns, so that the rule can be found by a lead's values
// (core/rule_index.h) and, where that is all, be told to match without evaluating the condition.
//
// Only what cannot go wrong is taken: comparisons of columns with constants, of built-in types
// whose equality and order are those of integers, floating-point numbers or bytes; tests for NULL;
// text prefixes; all joined by AND and OR; and lower() and upper() of a text column. Whatever else
// there is stays with the condition. Of a condition that may raise an error nothing is taken, so
// that its error is recorded for the same leads as without an index.
#pragma once

#include "leadroute.h"

#include "../core/rule_index.h"
#include "expression.h"

namespace core = leadroute::core;

// How a column's value becomes one that the index compares.
enum class SlotReader : uint8 {
    any, // asked for NULL alone
    int2,
    int4,
    int8,
    float4,
    float8,
    numeric,
    boolean,
    date,
    timestamp,
    text,
    uuid,
    lower,
    upper
};

struct RuleSlot {
    NameData column;
    Oid type;      // of the column, domains looked through
    Oid collation; // for lower() and upper()
    SlotReader reader;
};

// The slots of one index; they are shared by its rules.
struct RuleSlots {
    int count;
    RuleSlot slot[core::kMaxSlots];
};

// The predicate of a planned condition over the relation, in the current memory context; slots that
// it needs are added.
core::Predicate* rule_analyse(Expr* planned, Relation lead, RuleSlots* slots);
// Of a condition of which nothing is known.
core::Predicate* rule_unknown(void);

// Does the condition depend on nothing but the lead's columns, built-in objects and its author's
// rights, and mean the same whenever it is compiled?
bool rule_is_plain(const Condition* parsed);

// Reads a lead's values. `columns` are the attribute numbers of the slots' columns in the relation
// at hand. Values may point into the slot or the current memory context.
void rule_slots_read(const RuleSlot* slots, const AttrNumber* columns, int count,
                     TupleTableSlot* lead, core::Value* values);

// A numeric as a number of the index: exactly what it is, or between two neighbours.
core::Value numeric_number(Datum value);
