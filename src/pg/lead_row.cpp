// Completing a lead that does not exist with its columns' defaults; see lead_row.h.
#include "lead_row.h"
#include "attempt.h"

extern "C" {
#include "catalog/pg_sequence.h"
#include "commands/sequence.h"
#include "common/int.h"
#include "nodes/nodeFuncs.h"
#include "rewrite/rewriteHandler.h"
#include "storage/bufmgr.h"
#include "utils/fmgroids.h"
}

#include "expression.h"

static bool names_key(Jsonb* given, const char* key) {
    JsonbValue value;
    return getKeyJsonValueFromContainer(&given->root, key, static_cast<int>(strlen(key)), &value) !=
           NULL;
}

// The number that the sequence would give next to a session that keeps none. Read from its page: a
// default may name what is no sequence, such as a view, which SQL would run with our rights.
static int64 next_number(Oid sequence) {
    Relation relation = relation_open(sequence, AccessShareLock);
    if (relation->rd_rel->relkind != RELKIND_SEQUENCE)
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
                        errmsg("\"%s\" is not a sequence", RelationGetRelationName(relation))));
    HeapTuple row = SearchSysCache1(SEQRELID, ObjectIdGetDatum(sequence));
    if (!HeapTupleIsValid(row))
        elog(ERROR, "cache lookup failed for sequence %u", sequence);
    int64 increment = reinterpret_cast<Form_pg_sequence>(GETSTRUCT(row))->seqincrement;
    ReleaseSysCache(row);

    Buffer buffer = ReadBuffer(relation, 0);
    LockBuffer(buffer, BUFFER_LOCK_SHARE);
    Page page = BufferGetPage(buffer);
    HeapTupleHeader tuple = reinterpret_cast<HeapTupleHeader>(
        PageGetItem(page, PageGetItemId(page, FirstOffsetNumber)));
    FormData_pg_sequence_data data =
        *reinterpret_cast<Form_pg_sequence_data>(reinterpret_cast<char*>(tuple) + tuple->t_hoff);
    UnlockReleaseBuffer(buffer);

    int64 number = data.last_value;
    if (data.is_called && pg_add_s64_overflow(number, increment, &number))
        ereport(ERROR,
                (errcode(ERRCODE_SEQUENCE_GENERATOR_LIMIT_EXCEEDED),
                 errmsg("sequence \"%s\" is at its end", RelationGetRelationName(relation))));
    relation_close(relation, NoLock);
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

void lead_row_check(Relation relation, HeapTupleHeader row) {
    if (HeapTupleHeaderGetTypeId(row) != relation->rd_rel->reltype)
        ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
                        errmsg("the row is not one of \"%s\"", RelationGetRelationName(relation)),
                        errdetail("Its type is %s.", format_type_be(HeapTupleHeaderGetTypeId(row))),
                        errhint("Give a row of the lead table's own type.")));
}

TupleTableSlot* lead_row_slot(Relation relation, HeapTupleHeader row) {
    lead_row_check(relation, row);
    HeapTuple tuple = static_cast<HeapTuple>(palloc0(HEAPTUPLESIZE));
    tuple->t_len = HeapTupleHeaderGetDatumLength(row);
    tuple->t_data = row;
    ItemPointerSetInvalid(&tuple->t_self);
    TupleTableSlot* slot = MakeSingleTupleTableSlot(RelationGetDescr(relation), &TTSOpsHeapTuple);
    return ExecStoreHeapTuple(tuple, slot, false);
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
