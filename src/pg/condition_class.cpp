// What it takes to evaluate a planned condition.
//
// Bare conditions share one expression with their neighbours and run without a subtransaction to
// catch errors in, so a function counts as safe only when no argument can make it raise one: those
// the server marks leakproof, and the ones listed here, each read in the server's source.
//
// Built-in functions that are not immutable may read tables, settings or rights by names given at
// run time, so they run as the author like any function that is not built in.
#include "expression.h"

extern "C" {
#include "catalog/pg_collation.h"
#include "catalog/pg_proc.h"
#include "utils/fmgroids.h"
}

static const Oid kSafeFunctions[] = {
    // comparisons
    F_NUMERIC_EQ, F_NUMERIC_NE, F_NUMERIC_LT, F_NUMERIC_LE, F_NUMERIC_GT, F_NUMERIC_GE, F_ENUM_EQ,
    F_ENUM_NE, F_DATE_EQ_TIMESTAMP, F_DATE_NE_TIMESTAMP, F_DATE_LT_TIMESTAMP, F_DATE_LE_TIMESTAMP,
    F_DATE_GT_TIMESTAMP, F_DATE_GE_TIMESTAMP, F_TIMESTAMP_EQ_DATE, F_TIMESTAMP_NE_DATE,
    F_TIMESTAMP_LT_DATE, F_TIMESTAMP_LE_DATE, F_TIMESTAMP_GT_DATE, F_TIMESTAMP_GE_DATE,
    // casts that hold every value
    F_INT4_INT2, F_INT8_INT2, F_INT8_INT4, F_NUMERIC_INT2, F_NUMERIC_INT4, F_NUMERIC_INT8,
    F_FLOAT4_INT2, F_FLOAT4_INT4, F_FLOAT4_INT8, F_FLOAT8_INT2, F_FLOAT8_INT4, F_FLOAT8_INT8,
    F_FLOAT8_FLOAT4, F_INT4_BOOL, F_BOOL_INT4, F_TEXT_BPCHAR, F_TEXT_NAME,
    // looking into values
    F_LENGTH_TEXT, F_CHAR_LENGTH_TEXT, F_CHARACTER_LENGTH_TEXT, F_JSONB_OBJECT_FIELD,
    F_JSONB_OBJECT_FIELD_TEXT, F_JSONB_EXISTS,
    // the transaction's clock
    F_NOW, F_TRANSACTION_TIMESTAMP};

static const Oid kLikeFunctions[] = {F_TEXTLIKE,    F_TEXTNLIKE, F_BPCHARLIKE,
                                     F_BPCHARNLIKE, F_NAMELIKE,  F_NAMENLIKE};

static bool built_in(Oid object) {
    return object < FirstNormalObjectId;
}

static bool listed(Oid function, const Oid* list, int count) {
    for (int i = 0; i < count; i++)
        if (list[i] == function)
            return true;
    return false;
}

// LIKE raises an error for a pattern that ends with its escape character, and recurses at each %.
static bool pattern_is_safe(const Node* pattern) {
    if (pattern == NULL || !IsA(pattern, Const))
        return false;
    const Const* value = reinterpret_cast<const Const*>(pattern);
    if (value->constisnull)
        return true;
    const text* packed = DatumGetTextPP(value->constvalue);
    const char* at = VARDATA_ANY(packed);
    const char* end = at + VARSIZE_ANY_EXHDR(packed);
    if (end - at > 1000)
        return false;
    // server encodings never hold a backslash inside another character
    for (; at < end; at++)
        if (*at == '\\' && ++at == end)
            return false;
    return true;
}

static bool function_is_safe(Oid function, const Node* node, List* arguments) {
    if (!built_in(function))
        return false;
    if (listed(function, kSafeFunctions, lengthof(kSafeFunctions)))
        return true;
    if (listed(function, kLikeFunctions, lengthof(kLikeFunctions)))
        return (IsA(node, OpExpr) || IsA(node, FuncExpr)) &&
               pattern_is_safe(static_cast<Node*>(llast(arguments)));
    return get_func_leakproof(function) && get_func_rettype(function) == BOOLOID &&
           func_volatile(function) == PROVOLATILE_IMMUTABLE;
}

// Functions over text raise an error when no collation could be chosen, and some do for collations
// that are not deterministic or no longer known to the system.
static bool collation_is_safe(const Node* node, List* arguments) {
    Oid collation = exprInputCollation(node);
    if (OidIsValid(collation))
        return collation == DEFAULT_COLLATION_OID || collation == C_COLLATION_OID;
    ListCell* cell;
    foreach (cell, arguments)
        if (OidIsValid(exprCollation(static_cast<Node*>(lfirst(cell)))))
            return false;
    return true;
}

static bool call_is_safe(Oid function, const Node* node, List* arguments) {
    return function_is_safe(function, node, arguments) && collation_is_safe(node, arguments);
}

static bool not_bare(Node* node, void* context) {
    if (node == NULL)
        return false;
    switch (nodeTag(node)) {
    case T_Var:
        return reinterpret_cast<Var*>(node)->varattno <= 0;
    case T_SQLValueFunction:
        // the others depend on the session's zone or user
        return reinterpret_cast<SQLValueFunction*>(node)->op != SVFOP_CURRENT_TIMESTAMP;
    case T_CoerceViaIO: {
        // a number's text
        const CoerceViaIO* cast = reinterpret_cast<const CoerceViaIO*>(node);
        Oid from = exprType(reinterpret_cast<const Node*>(cast->arg));
        if (cast->resulttype != TEXTOID || (from != INT2OID && from != INT4OID && from != INT8OID))
            return true;
        break;
    }
    case T_NullTest:
        if (reinterpret_cast<NullTest*>(node)->argisrow)
            return true;
        break;
    case T_FuncExpr: {
        FuncExpr* call = reinterpret_cast<FuncExpr*>(node);
        if (!call_is_safe(call->funcid, node, call->args))
            return true;
        break;
    }
    case T_OpExpr:
    case T_DistinctExpr:
    case T_NullIfExpr: {
        OpExpr* call = reinterpret_cast<OpExpr*>(node);
        if (!call_is_safe(call->opfuncid, node, call->args))
            return true;
        break;
    }
    case T_ScalarArrayOpExpr: {
        ScalarArrayOpExpr* call = reinterpret_cast<ScalarArrayOpExpr*>(node);
        if (!call_is_safe(call->opfuncid, node, call->args) || !built_in(call->hashfuncid))
            return true;
        break;
    }
    case T_Const:
    case T_List:
    case T_BoolExpr:
    case T_BooleanTest:
    case T_RelabelType:
    case T_CaseExpr:
    case T_CaseWhen:
    case T_CaseTestExpr:
    case T_CoalesceExpr:
        break;
    default:
        return true;
    }
    return walk_tree(node, not_bare, context);
}

static bool function_needs_author(Oid function, void*) {
    return !built_in(function) || (func_volatile(function) != PROVOLATILE_IMMUTABLE &&
                                   !listed(function, kSafeFunctions, lengthof(kSafeFunctions)));
}

// Types that are not built in bring functions along: of domains, of elements, of columns.
static bool needs_author(Node* node, void* context) {
    if (node == NULL)
        return false;
    if (IsA(node, SQLValueFunction))
        return not_bare(node, NULL);
    if (!IsA(node, List) && !IsA(node, CaseWhen) && !built_in(exprType(node)))
        return true;
    if (check_functions_in_node(node, function_needs_author, NULL))
        return true;
    return walk_tree(node, needs_author, context);
}

ConditionClass condition_class(Expr* planned) {
    if (IsA(planned, Const)) {
        const Const* value = reinterpret_cast<const Const*>(planned);
        if (value->constisnull || !DatumGetBool(value->constvalue))
            return CONDITION_NEVER;
    }
    return value_class(planned);
}

ConditionClass value_class(Expr* planned) {
    Node* node = reinterpret_cast<Node*>(planned);
    if (!not_bare(node, NULL))
        return CONDITION_BARE;
    return needs_author(node, NULL) ? CONDITION_AS_AUTHOR : CONDITION_GUARDED;
}
