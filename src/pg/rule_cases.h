// Dividing the leads that some clauses hold for into cases that together are all of them, for
// rule_proof.cpp: what no single rule takes may be taken by several.
#pragma once

#include "leadroute.h"

extern "C" {
#include "nodes/pg_list.h"
#include "nodes/primnodes.h"
}

constexpr int kMaxCases = 1000; // of one list
constexpr int kMaxSplits = 3;   // one within the other
constexpr int kMaxColumns = 4;  // tried at each
constexpr int kMaxBoundaries = 32;

// How many values a clause `expression = ANY (constants)` lists; 0: it is none.
int cases_count(const Expr* clause);
// The values of a constant, or of a constant array but for its NULLs; false: it is neither.
bool cases_values(const Expr* constant, Datum** values, int* count);
// Sorts them in the type's order and leaves out what is there twice: how many are left, 0: it has
// no order.
int cases_sort(Oid type, Oid collation, Datum* values, int count);
bool cases_found(Oid type, Oid collation, const Datum* sorted, int count, Datum value);

// The first clause that is an OR or a list of values, taken apart: a list of lists of clauses. NIL:
// there is none, or it is too long.
List* cases_listed(List* clauses);

// By the `number`th column that the conditions compare with constants, and the clauses do not
// settle: it is NULL, below, at and between the constants, and above. NIL: there are fewer columns.
List* cases_by_column(List* clauses, List* conditions, int number);
