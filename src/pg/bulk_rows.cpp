// See bulk_rows.h.
#include "bulk_rows.h"
#include "placement.h"

extern "C" {
#include "commands/trigger.h"
#include "commands/sequence.h"
#include "nodes/execnodes.h"
}

void bulk_begin(BulkRows* rows, const char* table, int room) {
    rows->relation = table_open(get_relname_relid(table, leadroute_schema()), RowExclusiveLock);
    rows->id = bulk_column(rows, "id");
    rows->sequence = identity_sequence(rows->relation, rows->id);
    rows->fires = rows->relation->trigdesc != NULL && rows->relation->trigdesc->numtriggers > 1;
    rows->count = 0;
    rows->room = room;
    rows->slots = static_cast<TupleTableSlot**>(palloc(sizeof(TupleTableSlot*) * (room + 1)));
}

AttrNumber bulk_column(const BulkRows* rows, const char* name) {
    AttrNumber column = get_attnum(RelationGetRelid(rows->relation), name);
    if (column == InvalidAttrNumber)
        elog(ERROR, "%s has no column %s", RelationGetRelationName(rows->relation), name);
    return column;
}

int64 bulk_add(BulkRows* rows, const BulkValue* values, int count) {
    Assert(rows->count < rows->room);
    TupleTableSlot* slot = table_slot_create(rows->relation, NULL);
    rows->slots[rows->count++] = slot;
    int columns = slot->tts_tupleDescriptor->natts;
    memset(slot->tts_isnull, true, columns);
    int64 id = nextval_internal(rows->sequence, false);
    slot->tts_values[rows->id - 1] = Int64GetDatum(id);
    slot->tts_isnull[rows->id - 1] = false;
    for (int i = 0; i < count; i++) {
        slot->tts_values[values[i].column - 1] = values[i].value;
        slot->tts_isnull[values[i].column - 1] = false;
    }
    ExecStoreVirtualTuple(slot);
    return id;
}

static void insert_rows(BulkRows* rows) {
    EState* executor = CreateExecutorState();
    ResultRelInfo* result = makeNode(ResultRelInfo);
    InitResultRelInfo(result, rows->relation, 0, NULL, 0);
    ExecOpenIndices(result, false);
    executor->es_snapshot = GetActiveSnapshot();
    AfterTriggerBeginQuery();
    for (int i = 0; i < rows->count; i++) {
        ExecSimpleRelationInsert(result, executor, rows->slots[i]);
        ResetPerTupleExprContext(executor);
    }
    AfterTriggerEndQuery(executor);
    ExecResetTupleTable(executor->es_tupleTable, false); // the triggers' slots
    ExecCloseResultRelations(executor);
    ExecCloseIndices(result);
    FreeExecutorState(executor);
}

static void write_rows(BulkRows* rows) {
    EState* executor = CreateExecutorState();
    ResultRelInfo* result = makeNode(ResultRelInfo);
    InitResultRelInfo(result, rows->relation, 0, NULL, 0);
    ExecOpenIndices(result, false);
    table_multi_insert(rows->relation, rows->slots, rows->count, GetCurrentCommandId(true), 0,
                       NULL);
    for (int i = 0; i < rows->count; i++) {
        insert_index_entries_of(result, rows->slots[i], executor);
        ResetPerTupleExprContext(executor);
    }
    ExecCloseIndices(result);
    FreeExecutorState(executor);
}

void bulk_end(BulkRows* rows) {
    if (rows->count > 0 && rows->fires)
        insert_rows(rows);
    else if (rows->count > 0)
        write_rows(rows);
    for (int i = 0; i < rows->count; i++)
        ExecDropSingleTupleTableSlot(rows->slots[i]);
    table_close(rows->relation, NoLock);
}
