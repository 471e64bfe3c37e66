// Scores; see score.h.
#include "score.h"

extern "C" {
#include "utils/numeric.h"
}

bool score_type(Oid type) {
    switch (type) {
    case INT2OID:
    case INT4OID:
    case INT8OID:
    case FLOAT4OID:
    case FLOAT8OID:
    case NUMERICOID:
        return true;
    default:
        return false;
    }
}

AttrNumber score_column_in(Relation relation, const char* name, Oid* type) {
    *type = InvalidOid;
    AttrNumber number = InvalidAttrNumber;
    if (name != NULL)
        number = get_attnum(RelationGetRelid(relation), name);
    if (number > 0)
        *type = getBaseType(TupleDescAttr(RelationGetDescr(relation), number - 1)->atttypid);
    return score_type(*type) ? number : AttrNumber(InvalidAttrNumber);
}

bool score_from(Oid type, Datum value, double* score) {
    switch (type) {
    case INT2OID:
        *score = DatumGetInt16(value);
        break;
    case INT4OID:
        *score = DatumGetInt32(value);
        break;
    case INT8OID:
        *score = static_cast<double>(DatumGetInt64(value));
        break;
    case FLOAT4OID:
        *score = DatumGetFloat4(value);
        break;
    case FLOAT8OID:
        *score = DatumGetFloat8(value);
        break;
    default:
        *score = DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow, value));
        break;
    }
    return isfinite(*score);
}

extern "C" {
PG_FUNCTION_INFO_V1(leadroute_score_of);

// _score_of(value anyelement) -> double precision
Datum leadroute_score_of(PG_FUNCTION_ARGS) {
    Oid type = getBaseType(get_fn_expr_argtype(fcinfo->flinfo, 0));
    double score;
    if (!score_type(type) || !score_from(type, PG_GETARG_DATUM(0), &score))
        PG_RETURN_NULL();
    PG_RETURN_FLOAT8(score);
}
}
