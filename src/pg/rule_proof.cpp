// Proofs about conditions; see rule_proof.h. Splitting into cases is in rule_cases.cpp.
#include "rule_proof.h"

#include "rule_cases.h"
#include "rule_chains.h"

extern "C" {
#include "access/stratnum.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "utils/array.h"
}

// Steps of the search for one rule, and for all: a step compares two rules at the most.
constexpr int kRuleSteps = 4000;
constexpr int64 kAllSteps = 5000000;
// Rules that are only told apart by their columns are cheap.
constexpr int64 kAllLooks = 2000000000;
// The server's prover looks into arrays of so many elements (MAX_SAOP_ARRAY_SIZE).
constexpr int kProverArray = 100;

// The prover compares each part of one with each of the other, and cannot be cancelled there.
constexpr int64 kMaxComparisons = 100000;

struct ProofRule {
    List* clauses;      // true together when the condition is; what proves something of it
    List* conditions;   // the whole condition as its conjuncts; NIL: it always holds
    bool* safe;         // of each of them: it cannot raise an error
    int* parts;         // of each of them, as the prover counts
    Bitmapset* columns; // of the whole condition
    bool never;
    bool hides;
};

struct Proof {
    MemoryContext scratch;
    ProofRule* rules;
    int count;
    RuleChains* chains; // of hiding rules
    int64 steps_left;
    int64 looks_left;

    // of the search at hand
    int before;
    int rule_steps_left;
    int depth;
    int64 parts; // of the clauses at hand
    List* found;
};

Proof* proof_begin(int capacity) {
    Proof* proof = static_cast<Proof*>(palloc0(sizeof(Proof)));
    proof->scratch =
        AllocSetContextCreate(CurrentMemoryContext, "leadroute proof", ALLOCSET_DEFAULT_SIZES);
    proof->rules = static_cast<ProofRule*>(
        MemoryContextAllocHuge(CurrentMemoryContext, sizeof(ProofRule) * (capacity + 1)));
    proof->chains = rule_chains_begin(capacity);
    proof->steps_left = kAllSteps;
    proof->looks_left = kAllLooks;
    return proof;
}

bool proof_exhausted(const Proof* proof) {
    return proof->steps_left <= 0 || proof->looks_left <= 0;
}

static bool add_parts(Node* node, void* context) {
    if (node == NULL)
        return false;
    int values = IsA(node, ScalarArrayOpExpr) ? cases_count(reinterpret_cast<Expr*>(node)) : 1;
    *static_cast<int*>(context) += values > kProverArray ? 1 : Max(values, 1);
    return walk_tree(node, add_parts, context);
}

static int count_parts(Node* node) {
    int count = 0;
    (void)add_parts(node, &count);
    return count;
}

// No lead makes all of them true, as far as it is cheap to tell.
static bool refuted(List* clauses) {
    int64 parts = count_parts(reinterpret_cast<Node*>(clauses));
    // weakly: what is NULL does not hold either
    return parts * parts <= kMaxComparisons && predicate_refuted_by(clauses, clauses, true);
}

void proof_add(Proof* proof, Expr* planned, bool hides) {
    int number = proof->count++;
    ProofRule* rule = &proof->rules[number];
    *rule = {};
    rule->never = planned == NULL;
    if (planned == NULL)
        return;
    rule->conditions = make_ands_implicit(planned);
    int count = list_length(rule->conditions);
    rule->safe = static_cast<bool*>(palloc0(sizeof(bool) * (count + 1)));
    rule->parts = static_cast<int*>(palloc0(sizeof(int) * (count + 1)));
    pull_varattnos(reinterpret_cast<Node*>(planned), 1, &rule->columns);
    bool decided_by_lead = true;
    ListCell* cell;
    foreach (cell, rule->conditions) {
        Expr* part = static_cast<Expr*>(lfirst(cell));
        ConditionClass kind = value_class(part);
        bool fixed = kind != CONDITION_AS_AUTHOR &&
                     !contain_mutable_functions(reinterpret_cast<Node*>(part));
        rule->safe[foreach_current_index(cell)] = kind == CONDITION_BARE;
        rule->parts[foreach_current_index(cell)] = count_parts(reinterpret_cast<Node*>(part));
        decided_by_lead &= fixed;
        if (fixed)
            rule->clauses = lappend(rule->clauses, part);
    }
    rule->hides = hides && decided_by_lead;
    RuleKey key = rule_chains_key(planned);
    if (rule->hides)
        rule_chains_add(proof->chains, &key, number);
}

bool proof_contradictory(Proof* proof, int number) {
    const ProofRule* rule = &proof->rules[number];
    if (rule->never || list_length(rule->clauses) < 2)
        return rule->never;
    MemoryContext caller = MemoryContextSwitchTo(proof->scratch);
    bool never = refuted(rule->clauses);
    MemoryContextSwitchTo(caller);
    MemoryContextReset(proof->scratch);
    return never;
}

// --- one rule against one ---

// `expression = ANY (constants)` of so many constants that the prover does not look into it.
static const ScalarArrayOpExpr* long_list(const Expr* part) {
    if (!IsA(part, ScalarArrayOpExpr))
        return NULL;
    const ScalarArrayOpExpr* list = reinterpret_cast<const ScalarArrayOpExpr*>(part);
    return list->useOr && cases_count(part) > kProverArray ? list : NULL;
}

// The values that a clause leaves the list's expression, compared by the same operator.
static bool values_of(const Expr* clause, const ScalarArrayOpExpr* list, Datum** values,
                      int* count) {
    List* arguments;
    if (IsA(clause, OpExpr)) {
        const OpExpr* call = reinterpret_cast<const OpExpr*>(clause);
        arguments = call->args;
        if (call->opno != list->opno || call->inputcollid != list->inputcollid)
            return false;
    } else if (IsA(clause, ScalarArrayOpExpr)) {
        const ScalarArrayOpExpr* call = reinterpret_cast<const ScalarArrayOpExpr*>(clause);
        arguments = call->args;
        if (!call->useOr || call->opno != list->opno || call->inputcollid != list->inputcollid)
            return false;
    } else {
        return false;
    }
    return equal(linitial(arguments), linitial(list->args)) &&
           cases_values(static_cast<Expr*>(lsecond(arguments)), values, count);
}

static bool contains(const ScalarArrayOpExpr* list, const Datum* values, int count) {
    Datum* all;
    int all_count;
    Expr* array = static_cast<Expr*>(lsecond(list->args));
    Oid type = get_element_type(exprType(reinterpret_cast<Node*>(array)));
    if (!cases_values(array, &all, &all_count))
        return false;
    all_count = cases_sort(type, list->inputcollid, all, all_count);
    for (int i = 0; i < count; i++)
        if (!cases_found(type, list->inputcollid, all, all_count, values[i]))
            return false;
    return all_count > 0;
}

static bool list_implied(List* clauses, const ScalarArrayOpExpr* list) {
    if (!is_equality(list->opno))
        return false;
    ListCell* cell;
    foreach (cell, clauses) {
        Datum* values;
        int count;
        if (values_of(static_cast<Expr*>(lfirst(cell)), list, &values, &count) &&
            contains(list, values, count))
            return true;
    }
    return false;
}

// For every lead that all clauses hold for, the rule's condition holds, and raises no error.
static bool implied(List* clauses, int64 parts, const ProofRule* rule) {
    ListCell* cell;
    foreach (cell, rule->conditions) {
        Expr* part = static_cast<Expr*>(lfirst(cell));
        if (list_member(clauses, part))
            continue;
        int number = foreach_current_index(cell);
        if (!rule->safe[number] || parts * rule->parts[number] > kMaxComparisons)
            return false;
        const ScalarArrayOpExpr* list = long_list(part);
        if (list != NULL ? !list_implied(clauses, list)
                         : !predicate_implied_by(list_make1(part), clauses, false))
            return false;
    }
    return true;
}

// --- a rule against all that come before it ---

static bool try_rule(Proof* proof, List* clauses, const Bitmapset* columns, int number) {
    const ProofRule* rule = &proof->rules[number];
    if (number >= proof->before || --proof->looks_left <= 0 ||
        !bms_is_subset(rule->columns, columns))
        return false;
    proof->steps_left--;
    proof->rule_steps_left--;
    CHECK_FOR_INTERRUPTS();
    if (!implied(clauses, proof->parts, rule))
        return false;
    proof->found = list_append_unique_int(proof->found, number);
    return true;
}

static bool taken_by_one(Proof* proof, List* clauses, const Bitmapset* columns) {
    const RuleChains* chains = proof->chains;
    int count;
    const int* unkeyed = rule_chains_unkeyed(chains, &count);
    for (int i = 0; i < count && unkeyed[i] < proof->before; i++)
        if (try_rule(proof, clauses, columns, unkeyed[i]))
            return true;
    ListCell* cell;
    foreach (cell, clauses) {
        RuleKey key = rule_chains_key(static_cast<Expr*>(lfirst(cell)));
        if (key.kind == RuleKeyKind::none)
            continue;
        int number = rule_chains_first(chains, &key);
        for (; number >= 0 && number < proof->before; number = rule_chains_next(chains, number))
            if (try_rule(proof, clauses, columns, number))
                return true;
    }
    return false;
}

static bool covered(Proof* proof, List* clauses);

// All cases must be covered for these to be so.
static bool all_covered(Proof* proof, List* cases) {
    int found = list_length(proof->found);
    ListCell* cell;
    foreach (cell, cases) {
        if (!covered(proof, static_cast<List*>(lfirst(cell)))) {
            proof->found = list_truncate(proof->found, found);
            return false;
        }
    }
    return true;
}

// Conditions that might split the leads at hand: of hiding rules that ask for one column more at
// the most.
static List* dividing(const Proof* proof, const Bitmapset* columns) {
    List* conditions = NIL;
    int count;
    const int* unkeyed = rule_chains_unkeyed(proof->chains, &count);
    for (int i = 0; i < count && unkeyed[i] < proof->before; i++) {
        const ProofRule* rule = &proof->rules[unkeyed[i]];
        Bitmapset* more = bms_difference(rule->columns, columns);
        if (bms_num_members(more) <= 1)
            conditions = list_concat(conditions, rule->conditions);
        bms_free(more);
        if (list_length(conditions) > kMaxCases)
            break;
    }
    return conditions;
}

static bool covered(Proof* proof, List* clauses) {
    check_stack_depth();
    CHECK_FOR_INTERRUPTS();
    proof->steps_left--;
    if (--proof->rule_steps_left <= 0 || proof_exhausted(proof))
        return false;
    if (proof->depth > 0 && clauses != NIL && refuted(clauses))
        return true;
    proof->parts = count_parts(reinterpret_cast<Node*>(clauses));
    Bitmapset* columns = NULL;
    pull_varattnos(reinterpret_cast<Node*>(clauses), 1, &columns);
    if (taken_by_one(proof, clauses, columns))
        return true;
    if (proof->depth >= kMaxSplits)
        return false;
    proof->depth++;
    bool all = false;
    List* cases = cases_listed(clauses);
    if (cases != NIL) {
        all = all_covered(proof, cases);
    } else {
        List* conditions = dividing(proof, columns);
        for (int i = 0; i < kMaxColumns && !all; i++) {
            cases = cases_by_column(clauses, conditions, i);
            if (cases == NIL)
                break;
            all = all_covered(proof, cases);
        }
    }
    proof->depth--;
    return all;
}

static bool search(Proof* proof, List* clauses, int before, List** others) {
    proof->before = before;
    proof->rule_steps_left = kRuleSteps;
    proof->depth = 0;
    proof->found = NIL;
    MemoryContext caller = MemoryContextSwitchTo(proof->scratch);
    bool all = covered(proof, clauses);
    MemoryContextSwitchTo(caller);
    *others = all ? list_copy(proof->found) : NIL;
    list_sort(*others, list_int_cmp);
    MemoryContextReset(proof->scratch);
    return all;
}

bool proof_hidden(Proof* proof, int number, List** others) {
    *others = NIL;
    const ProofRule* rule = &proof->rules[number];
    return !rule->never && search(proof, rule->clauses, number, others);
}

bool proof_complete(Proof* proof) {
    List* others;
    return search(proof, NIL, proof->count, &others);
}
