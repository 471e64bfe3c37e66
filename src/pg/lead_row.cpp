// Completing a lead that does not exist with its columns' defaults; see lead_row.h.
#include "lead_row.h"
#include "attempt.h"

extern "C" {
#include "commands/sequence.h"
#include "nodes/nodeFuncs.h"
#include "rewrite/rewriteHandler.h"
#include "utils/fmgroids.h"
}

#include "expression.h"

static bool names_key(Jsonb* given, const char* key) {
    JsonbValue value;
    return getKeyJsonValueFromContainer(&given->root, key, static_cast<int>(strlen(key)), &value) !=
           NULL;
}

// The number that the sequence would give next to a session that keeps none.
static int64 next_number(Oid sequence) {
    OwnerScope owner;
    owner_scope_begin(&owner);
    SPI_connect();
    char* name = quote_qualified_identifier(get_namespace_name(get_rel_namespace(sequence)),
                                            get_rel_name(sequence));
    char* query = psprintf("SELECT CASE WHEN s.is_called THEN s.last_value + q.seqincrement"
                           " ELSE s.last_value END FROM %s s, pg_sequence q WHERE q.seqrelid = %u",
                           name, sequence);
    if (SPI_execute(query, true, 1) != SPI_OK_SELECT || SPI_processed != 1)
        elog(ERROR, "cannot read sequence %s", name);
    bool isnull;
    int64 number =
        DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
    SPI_finish();
    owner_scope_end(&owner);
    return number;
}

static Node* number_constant(Oid sequence, Oid type) {
    int64 number = next_number(sequence);
    if (type == INT8OID)
        return reinterpret_cast<Node*>(makeConst(INT8OID, -1, InvalidOid, sizeof(int64),
                                                 Int64GetDatum(number), false, FLOAT8PASSBYVAL));
    bool small = type == INT2OID;
    return reinterpret_cast<Node*>(makeConst(
        type, -1, InvalidOid, small ? sizeof(int16) : sizeof(int32),
        small ? Int16GetDatum((int16)number) : Int32GetDatum((int32)number), false, true));
}

// Puts the next number of a sequence where one would be taken.
static Node* look_up_numbers(Node* node, void* context) {
    if (node == NULL)
        return NULL;
    if (IsA(node, NextValueExpr)) {
        const NextValueExpr* next = reinterpret_cast<const NextValueExpr*>(node);
        return number_constant(next->seqid, next->typeId);
    }
    if (IsA(node, FuncExpr)) {
        const FuncExpr* call = reinterpret_cast<const FuncExpr*>(node);
        if (call->funcid == F_NEXTVAL && IsA(linitial(call->args), Const)) {
            const Const* sequence = static_cast<const Const*>(linitial(call->args));
            if (!sequence->constisnull)
                return number_constant(DatumGetObjectId(sequence->constvalue), INT8OID);
        }
    }
    return mutate_tree(node, look_up_numbers, context);
}

struct DefaultValue {
    Node* expression;
    Form_pg_attribute column;
    Datum value;
    bool isnull;
};

// What it calls may be anything: read-only until the subtransaction around it ends.
static void evaluate(void* argument) {
    DefaultValue* wanted = static_cast<DefaultValue*>(argument);
    XactReadOnly = true;
    EState* executor = CreateExecutorState();
    Expr* expression = reinterpret_cast<Expr*>(look_up_numbers(wanted->expression, NULL));
    ExprState* state = ExecPrepareExpr(expression, executor);
    Datum value =
        ExecEvalExprSwitchContext(state, GetPerTupleExprContext(executor), &wanted->isnull);
    wanted->value = wanted->isnull
                        ? (Datum)0
                        : datumCopy(value, wanted->column->attbyval, wanted->column->attlen);
    FreeExecutorState(executor);
}

static void default_value(Relation relation, Form_pg_attribute column, Datum* value, bool* isnull) {
    DefaultValue wanted = {build_column_default(relation, column->attnum), column, (Datum)0, true};
    ErrorData* error = wanted.expression == NULL ? NULL : attempt_apart(evaluate, &wanted);
    if (error != NULL)
        ereport(ERROR,
                (errcode(ERRCODE_LR_CONFIGURATION),
                 errmsg("the default of column \"%s\" cannot be evaluated without an insert: %s",
                        NameStr(column->attname), error->message),
                 errdetail("The lead does not give the column, and a default may write "
                           "nothing here; functions in it run with search_path = "
                           "pg_catalog, pg_temp."),
                 errhint("Give \"%s\" a value in the lead.", NameStr(column->attname))));
    *value = wanted.value;
    *isnull = wanted.isnull;
}

HeapTuple lead_row_complete(Relation relation, HeapTupleHeader row, Jsonb* given) {
    TupleDesc columns = RelationGetDescr(relation);
    HeapTupleData tuple;
    tuple.t_len = HeapTupleHeaderGetDatumLength(row);
    ItemPointerSetInvalid(&tuple.t_self);
    tuple.t_tableOid = InvalidOid;
    tuple.t_data = row;
    Datum* values = static_cast<Datum*>(palloc0(sizeof(Datum) * columns->natts));
    bool* nulls = static_cast<bool*>(palloc0(sizeof(bool) * columns->natts));
    heap_deform_tuple(&tuple, columns, values, nulls);
    for (int i = 0; i < columns->natts; i++) {
        Form_pg_attribute column = TupleDescAttr(columns, i);
        if (column->attisdropped || column->attgenerated != '\0')
            nulls[i] = true;
        else if (!names_key(given, NameStr(column->attname)))
            default_value(relation, column, &values[i], &nulls[i]);
    }
    return heap_form_tuple(columns, values, nulls);
}
