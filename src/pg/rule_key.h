// A value that a lead must have in one column for a rule to match: `column = constant`, found in
// the rule's condition. Leads with another value are told apart by comparing bytes, at a tenth of
// what evaluating the condition costs.
#pragma once

#include "leadroute.h"

extern "C" {
#include "nodes/primnodes.h"
}

enum class RuleKeyKind : uint8 {
    none, // no such value: every lead has to be tried
    number,
    text
};

// Small, and complete for most texts, so that those of many rules are compared within a few cache
// lines.
struct RuleKey {
    RuleKeyKind kind;
    AttrNumber column;
    int32 length;     // of the text
    Datum number;     // or the first bytes of the text, the rest 0
    const char* text; // all of it
};

// Finds the key of a planned condition that cannot raise an error. *rest becomes what else there is
// to evaluate for a lead that the key admits, NULL: nothing; without a key it is the condition.
// Both share nodes with the condition.
RuleKey rule_key_find(Expr* condition, Expr** rest);

// False: the condition is not true for the lead in `slot`. Inline, as most rules that a lead meets
// end here.
bool rule_key_admits_text(const RuleKey* key, Datum value);
inline bool rule_key_admits(const RuleKey* key, TupleTableSlot* slot) {
    if (key->kind == RuleKeyKind::none)
        return true;
    bool isnull;
    Datum value = slot_getattr(slot, key->column, &isnull);
    if (isnull)
        return false;
    if (key->kind == RuleKeyKind::number)
        return value == key->number;
    const char* mine = DatumGetPointer(value);
    if (VARATT_IS_SHORT(mine) && !VARATT_IS_EXTERNAL(mine)) {
        if (static_cast<int32>(VARSIZE_SHORT(mine) - VARHDRSZ_SHORT) != key->length)
            return false;
        Datum first = 0;
        memcpy(&first, VARDATA_SHORT(mine), Min(key->length, static_cast<int32>(sizeof(Datum))));
        if (first != key->number)
            return false;
    }
    return rule_key_admits_text(key, value);
}
