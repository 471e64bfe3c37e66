// One expression of a rule or territory: parsed, checked and classified; and the scope in which
// anything of a rule runs.
#pragma once

#include "leadroute.h"

extern "C" {
#include "nodes/nodeFuncs.h"
#include "nodes/primnodes.h"
}

// Runs as a rule's author, who can change nothing there, neither data nor settings, and with what
// decides the meaning of SQL text and times pinned, so that a rule means the same in every session.
// Ends by itself on error, with the transaction or subtransaction.
struct AuthorScope {
    Oid user;
    int security_context;
    int guc_level;
    bool read_only;
};
void author_scope_begin(AuthorScope* scope, Oid author);
void author_scope_end(AuthorScope* scope);

// What an expression has to be.
enum class ExpressionUse {
    condition, // boolean
    needs,     // text[]
    key,       // of any type, taken as text
    contact,   // likewise
    value      // a number, taken as float8
};

struct Condition {
    Relation lead;    // NULL: only whether it is one expression is asked
    const char* rule; // its name, or the territory's or lead table's, for messages
    const char* text;
    Oid author;
    ExpressionUse use;

    // What condition_parse() finds, in the memory context it is called in.
    Expr* expression;   // over the lead as relation 1, not planned
    Bitmapset* columns; // used, as pull_varattnos() numbers them
    List* functions;    // called, by OID
};

// Raises LR004 for what is not one expression of the right type over the lead's columns or that
// would not work before the lead is stored, with the position in it; LR012 where the author lacks a
// right on a column or function.
void condition_parse(Condition* condition);

// What it takes to evaluate a planned condition.
enum ConditionClass {
    CONDITION_NEVER,    // false or NULL whatever the lead
    CONDITION_BARE,     // built-in functions alone, which cannot raise an error
    CONDITION_GUARDED,  // built-in, immutable functions alone, which may
    CONDITION_AS_AUTHOR // others: run as the rule's author
};
ConditionClass condition_class(Expr* planned);
// The same of an expression that is not a condition: never CONDITION_NEVER.
ConditionClass value_class(Expr* planned);

// Whether a role may read a column of the relation (0: the whole row), through the relation itself
// or as a column of a table it is a partition of.
bool column_readable(Relation lead, AttrNumber column, Oid role);
bool function_executable(Oid function, Oid role);

// expression_tree_walker(), whose walkers have no argument types before PostgreSQL 16.
typedef bool (*TreeWalker)(Node* node, void* context);
inline bool walk_tree(Node* node, TreeWalker walker, void* context) {
#if LR_PG16_GE
    return expression_tree_walker(node, walker, context);
#else
    using Untyped = bool (*)();
    return expression_tree_walker(
        node, reinterpret_cast<Untyped>(reinterpret_cast<void (*)()>(walker)), context);
#endif
}

// expression_tree_mutator(), the same way.
typedef Node* (*TreeMutator)(Node* node, void* context);
inline Node* mutate_tree(Node* node, TreeMutator mutator, void* context) {
#if LR_PG16_GE
    return expression_tree_mutator(node, mutator, context);
#else
    using Untyped = Node* (*)();
    return expression_tree_mutator(
        node, reinterpret_cast<Untyped>(reinterpret_cast<void (*)()>(mutator)), context);
#endif
}
