// The value that a rule asks for in one column; see rule_key.h.
#include "rule_key.h"

extern "C" {
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "utils/fmgroids.h"
}

// The lead's column that an argument is, also as varchar taken for text.
static const Var* lead_column(const Expr* argument) {
    while (IsA(argument, RelabelType))
        argument = reinterpret_cast<const RelabelType*>(argument)->arg;
    return IsA(argument, Var) ? reinterpret_cast<const Var*>(argument) : NULL;
}

static RuleKeyKind equality(Oid function) {
    switch (function) {
    case F_TEXTEQ: // by bytes: conditions that cannot fail have deterministic collations alone
        return RuleKeyKind::text;
    case F_INT4EQ:
    case F_INT8EQ:
        return RuleKeyKind::number;
    default:
        return RuleKeyKind::none;
    }
}

static RuleKey key_of_call(const OpExpr* call) {
    RuleKey key = {};
    RuleKeyKind kind = equality(call->opfuncid);
    if (kind == RuleKeyKind::none)
        return key;
    const Expr* left = static_cast<const Expr*>(linitial(call->args));
    const Expr* right = static_cast<const Expr*>(lsecond(call->args));
    const Var* column = lead_column(left);
    const Expr* value = column != NULL ? right : left;
    if (column == NULL)
        column = lead_column(right);
    if (column == NULL || !IsA(value, Const) || reinterpret_cast<const Const*>(value)->constisnull)
        return key;
    Datum constant = reinterpret_cast<const Const*>(value)->constvalue;
    key.kind = kind;
    key.column = column->varattno;
    if (kind == RuleKeyKind::number) {
        key.number = constant;
    } else {
        text* asked = DatumGetTextPP(constant);
        key.text = VARDATA_ANY(asked);
        key.length = static_cast<int32>(VARSIZE_ANY_EXHDR(asked));
        memcpy(&key.number, key.text, Min(key.length, static_cast<int32>(sizeof(Datum))));
    }
    return key;
}

RuleKey rule_key_find(Expr* condition, Expr** rest) {
    RuleKey key = {};
    *rest = condition;
    if (condition == NULL)
        return key;
    if (IsA(condition, OpExpr)) {
        key = key_of_call(reinterpret_cast<const OpExpr*>(condition));
        if (key.kind != RuleKeyKind::none)
            *rest = NULL;
        return key;
    }
    if (!IsA(condition, BoolExpr) ||
        reinterpret_cast<const BoolExpr*>(condition)->boolop != AND_EXPR)
        return key;
    List* all = reinterpret_cast<const BoolExpr*>(condition)->args;
    ListCell* cell;
    foreach (cell, all) {
        Expr* part;
        key = rule_key_find(static_cast<Expr*>(lfirst(cell)), &part);
        if (key.kind == RuleKeyKind::none)
            continue;
        List* others = list_delete_nth_cell(list_copy(all), foreach_current_index(cell));
        if (part != NULL)
            others = lappend(others, part);
        *rest = others == NIL ? NULL : make_ands_explicit(others);
        break;
    }
    return key;
}

bool rule_key_admits_text(const RuleKey* key, Datum value) {
    text* mine = DatumGetTextPP(value);
    bool equal = static_cast<int32>(VARSIZE_ANY_EXHDR(mine)) == key->length &&
                 memcmp(VARDATA_ANY(mine), key->text, key->length) == 0;
    if (reinterpret_cast<Pointer>(mine) != DatumGetPointer(value))
        pfree(mine);
    return equal;
}
