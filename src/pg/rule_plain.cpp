// Whether a condition can only break by what the index looks at; see rule_analyse.h.
#include "rule_analyse.h"

extern "C" {
#include "nodes/nodeFuncs.h"
}

static bool built_in(Oid object) {
    return object < FirstNormalObjectId;
}

// Their constants name objects, which may be dropped or renamed.
static bool names_objects(Oid type) {
    static const Oid types[] = {REGPROCOID,   REGPROCEDUREOID,  REGOPEROID,     REGOPERATOROID,
                                REGCLASSOID,  REGTYPEOID,       REGROLEOID,     REGNAMESPACEOID,
                                REGCONFIGOID, REGDICTIONARYOID, REGCOLLATIONOID};
    for (Oid one : types)
        if (type == one)
            return true;
    return false;
}

static Oid operator_of(const Node* node) {
    switch (nodeTag(node)) {
    case T_OpExpr:
    case T_DistinctExpr:
    case T_NullIfExpr:
        return reinterpret_cast<const OpExpr*>(node)->opno;
    case T_ScalarArrayOpExpr:
        return reinterpret_cast<const ScalarArrayOpExpr*>(node)->opno;
    default:
        return InvalidOid;
    }
}

static bool not_plain(Node* node, void* context) {
    if (node == NULL)
        return false;
    if (IsA(node, Var)) {
        const Var* column = reinterpret_cast<const Var*>(node);
        return column->varattno <= 0 || !built_in(getBaseType(column->vartype)) ||
               !built_in(column->varcollid);
    }
    if (!IsA(node, List) && !IsA(node, CaseWhen)) {
        Oid type = exprType(node);
        if (!built_in(type) || names_objects(type) || !built_in(exprCollation(node)) ||
            !built_in(exprInputCollation(node)) || !built_in(operator_of(node)))
            return true;
    }
    return walk_tree(node, not_plain, context);
}

// Words that a time may be written with and that mean another one whenever they are read.
static bool names_time(const char* text) {
    static const char* const words[] = {"now", "today", "tomorrow", "yesterday"};
    for (const char* word : words)
        if (strcasestr(text, word) != NULL)
            return true;
    return false;
}

bool rule_is_plain(const Condition* parsed) {
    ListCell* cell;
    foreach (cell, parsed->functions)
        if (!built_in(lfirst_oid(cell)))
            return false;
    return !names_time(parsed->text) &&
           !not_plain(reinterpret_cast<Node*>(parsed->expression), NULL);
}
