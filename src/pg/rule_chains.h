// Rules by the value that they ask for in one column, for who looks at many rules at once: those of
// another value are not looked at.
#pragma once

#include "rule_key.h"

struct RuleChains;

// For so many rules, numbered from 0, in the current memory context.
RuleChains* rule_chains_begin(int capacity);

// What a rule's planned condition, or one of its conjuncts, asks for.
RuleKey rule_chains_key(Expr* planned);

// Rules are added in order.
void rule_chains_add(RuleChains* chains, const RuleKey* key, int rule);

// The first rule that may ask for this value, and the next one; -1: none is left. Some may ask for
// another.
int rule_chains_first(const RuleChains* chains, const RuleKey* key);
int rule_chains_next(const RuleChains* chains, int rule);

// The rules without a key, in order.
const int* rule_chains_unkeyed(const RuleChains* chains, int* count);

// The columns that keys are of, each once for each kind of key.
const RuleKey* rule_chains_columns(const RuleChains* chains, int* count);
