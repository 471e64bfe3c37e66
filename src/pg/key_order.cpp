// The order of lead keys in the indexes of the record; sql/key_order.sql says why.
#include "leadroute.h"

static int compare(FunctionCallInfo fcinfo) {
    text* a = PG_GETARG_TEXT_PP(0);
    text* b = PG_GETARG_TEXT_PP(1);
    int length = static_cast<int>(VARSIZE_ANY_EXHDR(a));
    int result = length - static_cast<int>(VARSIZE_ANY_EXHDR(b));
    if (result == 0)
        result = memcmp(VARDATA_ANY(a), VARDATA_ANY(b), length);
    PG_FREE_IF_COPY(a, 0);
    PG_FREE_IF_COPY(b, 1);
    return result;
}

extern "C" {
PG_FUNCTION_INFO_V1(leadroute_compare_keys);
PG_FUNCTION_INFO_V1(leadroute_key_lt);
PG_FUNCTION_INFO_V1(leadroute_key_le);
PG_FUNCTION_INFO_V1(leadroute_key_ge);
PG_FUNCTION_INFO_V1(leadroute_key_gt);

Datum leadroute_compare_keys(PG_FUNCTION_ARGS) {
    PG_RETURN_INT32(compare(fcinfo));
}

Datum leadroute_key_lt(PG_FUNCTION_ARGS) {
    PG_RETURN_BOOL(compare(fcinfo) < 0);
}

Datum leadroute_key_le(PG_FUNCTION_ARGS) {
    PG_RETURN_BOOL(compare(fcinfo) <= 0);
}

Datum leadroute_key_ge(PG_FUNCTION_ARGS) {
    PG_RETURN_BOOL(compare(fcinfo) >= 0);
}

Datum leadroute_key_gt(PG_FUNCTION_ARGS) {
    PG_RETURN_BOOL(compare(fcinfo) > 0);
}
}
