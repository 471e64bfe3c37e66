// The pieces of rule_analyse.cpp, for its files alone.
#pragma once

#include "rule_analyse.h"

extern "C" {
#include "nodes/nodeFuncs.h"
}

constexpr int kMaxAlternatives = 32;
constexpr int kMaxAtoms = 24; // of an alternative
constexpr int kMaxPrefix = 200;

// An atom that is not laid out yet. Texts are as core::Value says, numbers their lo.
struct Draft {
    core::Atom atom;
    core::Value* list;
};
struct Way {
    bool exact;
    int count;
    Draft* atoms[kMaxAtoms];
};
// The alternatives of an expression; NIL: it never holds.
struct Ways {
    List* all;
};

struct Analysis {
    Relation lead;
    RuleSlots* slots;
};

// What a side of a comparison reads.
struct Side {
    const Var* column;
    SlotReader reader;
    Oid collation;
};

// rule_side.cpp
SlotReader slot_reader(Oid type);
bool reads_text(SlotReader reader);
bool reads_fraction(SlotReader reader);
// The B-tree family that the type's comparisons belong to.
Oid type_family(Oid type);
const Var* lead_column_of(const Node* node);
// A call of lower() or upper() for a text column that cannot raise an error; NULL: it is none.
const FuncExpr* case_call(const Node* node);
// False: it is no column.
bool side_of(const Node* node, Side* side);
// The slot that reads it, -1: there is no room.
int slot_of(const Analysis* a, const Side* side);
// A constant of the type as a value that is compared with the side's. False: it cannot be.
bool constant_of(const Side* side, Oid type, Datum constant, core::Value* value);
// Drafts; NULL: there is no room.
Draft* new_draft(int slot, core::AtomKind kind);
// The column is one of the list, which is sorted here and freed of doubles.
Draft* draft_among(int slot, core::Value* list, int count);
Draft* draft_range(int slot, int64 lo, int64 hi);
Draft* draft_prefix(int slot, const char* text, uint32 length);
// By the strategy of a B-tree; NULL, too: not in an order that the index knows.
Draft* draft_compare(const Analysis* a, const Side* side, int strategy, core::Value value);

// rule_layout.cpp
core::Predicate* rule_lay_out(Ways ways);
