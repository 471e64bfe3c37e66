// The order in which waiting leads are claimed: its first measure, for the indexes of the record.
#include "place.h"

extern "C" {
#include "utils/jsonb.h"
#include "utils/numeric.h"
}

// The label's priority as an integer, cut to its range; the lowest comes first.
static int32 priority_of(Jsonb* label) {
    JsonbValue key = {};
    key.type = jbvString;
    key.val.string.val = const_cast<char*>("priority");
    key.val.string.len = 8;
    JsonbValue* priority = findJsonbValueFromContainer(&label->root, JB_FOBJECT, &key);
    if (priority == NULL || priority->type != jbvNumeric)
        return PG_INT32_MAX;
    double value = DatumGetFloat8(
        DirectFunctionCall1(numeric_float8_no_overflow, NumericGetDatum(priority->val.numeric)));
    // the ends of the range stand for "at the front" and "none"
    return static_cast<int32>(Min(Max(floor(value), PG_INT32_MIN + 1.0), PG_INT32_MAX - 1.0));
}

int32 place_of_label(Datum label) {
    return priority_of(DatumGetJsonbP(label));
}

extern "C" {
PG_FUNCTION_INFO_V1(leadroute_place);

// _place(label jsonb, at_front boolean) -> integer
Datum leadroute_place(PG_FUNCTION_ARGS) {
    if (!PG_ARGISNULL(1) && PG_GETARG_BOOL(1))
        PG_RETURN_INT32(PG_INT32_MIN);
    if (PG_ARGISNULL(0))
        PG_RETURN_INT32(PG_INT32_MAX);
    PG_RETURN_INT32(priority_of(PG_GETARG_JSONB_P(0)));
}
}
