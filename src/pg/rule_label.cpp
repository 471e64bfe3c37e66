// A rule's label; see rule_label.h.
#include "rule_label.h"

extern "C" {
#include "parser/parse_relation.h"
#include "utils/numeric.h"
}

// A JSON value as text: a string without its quotes, other scalars and containers as JSON has them.
static char* scalar_text(JsonbValue* value) {
    switch (value->type) {
    case jbvString:
        return pnstrdup(value->val.string.val, value->val.string.len);
    case jbvNumeric:
        return DatumGetCString(
            DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric)));
    case jbvBool:
        return pstrdup(value->val.boolean ? "true" : "false");
    case jbvBinary:
        return JsonbToCString(NULL, value->val.binary.data, value->val.binary.len);
    default:
        return NULL;
    }
}

static char* value_text(JsonbValue* value, Oid type) {
    Oid base = getBaseType(type);
    if (base != JSONOID && base != JSONBOID)
        return scalar_text(value);
    Jsonb* whole = JsonbValueToJsonb(value);
    return JsonbToCString(NULL, &whole->root, VARSIZE(whole));
}

LabelValue* label_values(Relation lead, Jsonb* label, int* count) {
    *count = 0;
    if (!JB_ROOT_IS_OBJECT(label))
        return NULL;
    LabelValue* values =
        static_cast<LabelValue*>(palloc(sizeof(LabelValue) * (JB_ROOT_COUNT(label) + 1)));
    JsonbIterator* iterator = JsonbIteratorInit(&label->root);
    JsonbValue item;
    AttrNumber column = InvalidAttrNumber;
    for (JsonbIteratorToken token = JsonbIteratorNext(&iterator, &item, true); token != WJB_DONE;
         token = JsonbIteratorNext(&iterator, &item, true)) {
        if (token == WJB_KEY) {
            char* key = pnstrdup(item.val.string.val, item.val.string.len);
            column = static_cast<AttrNumber>(attnameAttNum(lead, key, false));
        } else if (token == WJB_VALUE && column > 0) {
            Oid type = TupleDescAttr(RelationGetDescr(lead), column - 1)->atttypid;
            values[(*count)++] = {column, value_text(&item, type)};
        }
    }
    return values;
}

// Partition keys are part of the primary key, so they are among the reserved columns.
static void check_settable(Relation lead, const ReservedColumns* reserved,
                           const LabelValue* value) {
    Form_pg_attribute column = TupleDescAttr(RelationGetDescr(lead), value->attribute - 1);
    const char* name = NameStr(column->attname);
    const char* problem = NULL;
    if (column->attgenerated != '\0')
        problem = "it is a generated column";
    else if (strcmp(name, reserved->key) == 0)
        problem = "it is the lead's key";
    else if (strcmp(name, reserved->owner) == 0)
        problem = "it is the owner column";
    else if (reserved->tenant != NULL && strcmp(name, reserved->tenant) == 0)
        problem = "it is the tenant column";
    else if (column->attnotnull && value->text == NULL)
        problem = "it must not be null";
    if (problem != NULL)
        ereport(ERROR,
                (errcode(ERRCODE_LR_CONFIGURATION), errmsg("column \"%s\": %s", name, problem)));
}

Datum label_convert(Relation lead, const ReservedColumns* reserved, const LabelValue* value) {
    check_settable(lead, reserved, value);
    Form_pg_attribute column = TupleDescAttr(RelationGetDescr(lead), value->attribute - 1);
    Oid input;
    Oid parameter;
    getTypeInputInfo(column->atttypid, &input, &parameter);
    return OidInputFunctionCall(input, value->text, parameter, column->atttypmod);
}
