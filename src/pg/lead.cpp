// Who a lead is; see lead.h.
#include "lead.h"
#include "placement.h"

constexpr int kMaxKeyText = 1024;

// The key as text, as its type writes it. The common types need no call of their output function.
static const char* key_text(const LeadTable* table, Datum key) {
    static char text[kMaxKeyText];
    switch (table->key_type) {
    case INT8OID:
        pg_lltoa(DatumGetInt64(key), text);
        return text;
    case INT4OID:
        pg_ltoa(DatumGetInt32(key), text);
        return text;
    default:
        return OidOutputFunctionCall(table->key_output, key);
    }
}

static int64 tenant_of(const LeadTable* table, TupleTableSlot* slot) {
    if (table->tenant_column == InvalidAttrNumber)
        return 0;
    bool isnull;
    Datum value = slot_getattr(slot, table->tenant_column, &isnull);
    if (isnull)
        ereport(ERROR, (errcode(ERRCODE_NOT_NULL_VIOLATION), errmsg("the tenant of a lead is null"),
                        errhint("Each lead belongs to one tenant.")));
    if (table->tenant_type == INT4OID)
        return DatumGetInt32(value);
    return table->tenant_type == INT2OID ? DatumGetInt16(value) : DatumGetInt64(value);
}

bool lead_read(const LeadTable* table, Relation relation, TupleTableSlot* slot, Lead* lead) {
    bool isnull;
    Datum key = slot_getattr(slot, table->key_column, &isnull);
    if (isnull)
        return false;
    lead->relation = relation;
    lead->slot = slot;
    lead->key.database = MyDatabaseId;
    lead->key.tenant = tenant_of(table, slot);
    lead->key.assignment = placement(RelationGetRelid(relation), lead->key.tenant);
    lead->id = key_text(table, key);
    return true;
}

char* lead_id_argument(FunctionCallInfo fcinfo) {
    Oid type = get_fn_expr_argtype(fcinfo->flinfo, 1);
    if (type == TEXTOID || !OidIsValid(type))
        return text_to_cstring(PG_GETARG_TEXT_PP(1));
    Oid output;
    bool variable;
    getTypeOutputInfo(type, &output, &variable);
    return OidOutputFunctionCall(output, PG_GETARG_DATUM(1));
}
