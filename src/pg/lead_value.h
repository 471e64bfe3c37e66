// What a lead is worth, by its lead table's value_expression. The expression runs as a rule's
// condition does, with the rights of whoever wrote it.
#pragma once

#include "leadroute.h"

#include "rules.h"

// Compiles it into the set. One that does not compile fails for each lead; without its author it is
// left out; an alert tells.
void lead_value_compile(RuleSet* rules, Relation lead, const char* table, const char* text,
                        const char* author);

// The value of the lead in `slot`, above 0 and finite; 0: it has none. An error of the expression
// is as one of a rule: raised, or noted in *failures as kValueFailure.
double lead_value(RuleSet* rules, TupleTableSlot* slot, RuleFailures* failures);
