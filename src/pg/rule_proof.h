// Which rules no lead can come to, whatever leads there will be: proved by the server's own
// predicate prover from the conditions alone.
//
// A rule hides later ones only if every lead for which its condition holds ends there. So a rule
// counts as hiding only where whoever adds it says so (no period of validity, no territory that may
// not know the lead, needs that are the same for every lead), where its condition depends on
// nothing but the lead, and where it cannot raise an error for a lead that the later one holds for:
// of what may raise one, an earlier rule may ask only what the later one asks in the same words.
// NULL counts as in the server's strong implication: what is implied is true, not merely not false.
#pragma once

#include "expression.h"

struct Proof;

// For so many rules, in the current memory context, which all calls about it need.
Proof* proof_begin(int capacity);

// Adds the next rule in the order they are tried; `planned` NULL: it never holds, or cannot be
// evaluated. It is kept, not copied.
void proof_add(Proof* proof, Expr* planned, bool hides);

// No lead can make the rule's condition true.
bool proof_contradictory(Proof* proof, int rule);

// Every lead that the rule's condition holds for is taken by earlier rules: their numbers, in
// order, are in *others, an integer list.
bool proof_hidden(Proof* proof, int rule, List** others);

// Every lead there can be is taken by some rule.
bool proof_complete(Proof* proof);

// The search for proofs has used up what one call of check_rules() may: what is not proved by now
// may still be so.
bool proof_exhausted(const Proof* proof);
