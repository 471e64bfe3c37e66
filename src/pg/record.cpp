// Writing assignment rows; see record.h.
#include "record.h"
#include "block.h"
#include "claim_arrival.h"
#include "events.h"
#include "record_target.h"

constexpr int kBatch = 1000;
constexpr Size kBatchBytes = (Size)1024 * 1024;

static void set(Target* target, Column column, Datum value, bool present = true) {
    int i = target->column[column] - 1;
    target->slot->tts_values[i] = value;
    target->slot->tts_isnull[i] = !present;
}

// Of what is never due no step is either.
static bool has_step(const RecordRow* row) {
    return row->sla != 0 && row->next_step_at != DT_NOEND;
}

// Fills the target's slot; what it points to lives in the current memory context.
static void fill_slot(Target* target, const RecordRow* row) {
    TupleTableSlot* slot = target->slot;
    ExecClearTuple(slot);
    memset(slot->tts_isnull, true, slot->tts_tupleDescriptor->natts);
    set(target, C_TENANT, Int64GetDatum(row->tenant));
    set(target, C_TICKET, Int64GetDatum(row->ticket));
    set(target, C_DECIDED_AT, TimestampTzGetDatum(row->decided_at));
    set(target, C_REP, Int64GetDatum(row->rep), row->has_rep);
    set(target, C_RULE, Int64GetDatum(row->rule), row->rule != 0);
    set(target, C_RULE_VERSION, Int32GetDatum(row->rule_version), row->rule_version != 0);
    set(target, C_LEAD_TABLE, Int32GetDatum(row->lead_table));
    set(target, C_EPISODE, Int32GetDatum(row->episode));
    set(target, C_POOL, Int32GetDatum(row->pool), row->pool != 0);
    set(target, C_DAY, DateADTGetDatum(row->day), row->has_day);
    set(target, C_REP_CAP, Int32GetDatum(row->rep_cap), row->rep_cap >= 0);
    set(target, C_MEMBER_CAP, Int32GetDatum(row->member_cap), row->member_cap >= 0);
    set(target, C_OPEN_CAP, Int32GetDatum(row->open_cap), row->open_cap >= 0);
    set(target, C_DEFICIT, Float4GetDatum(row->deficit), row->has_deficit);
    set(target, C_TAG, Float8GetDatum(row->tag), row->has_deficit);
    set(target, C_LEAD_ID, CStringGetTextDatum(row->lead_id));
    set(target, C_METHOD, CStringGetTextDatum(row->method));
    set(target, C_COST, Float8GetDatum(core::cost_of(1, row->extra)), row->extra != 0);
    set(target, C_LABEL, row->label, row->has_label);
    set(target, C_CONTACT, Int64GetDatum(row->contact), row->has_contact);
    set(target, C_SCORE, Float8GetDatum(row->score), row->has_score);
    set(target, C_NEEDS, row->needs, row->needs != 0);
    set(target, C_AT_FRONT, BoolGetDatum(true), row->at_front);
    set(target, C_AVOID, row->avoid, row->avoid != 0);
    set(target, C_OFFERED_TO, row->offered_to, row->offered_to != 0);
    set(target, C_OFFERED_UNTIL, TimestampTzGetDatum(row->offered_until), row->offered_to != 0);
    set(target, C_SLA, Int32GetDatum(row->sla), row->sla != 0);
    set(target, C_DUE_AT, TimestampTzGetDatum(row->due_at), row->sla != 0);
    set(target, C_NEXT_STEP_AT, TimestampTzGetDatum(row->next_step_at), has_step(row));
    set(target, C_POOL_BOUND, BoolGetDatum(true), row->pool_bound);
    set(target, C_HOPS, Int32GetDatum(row->hops), row->hops != 0);
    if (row->explanation_length > 0) {
        bytea* bytes = static_cast<bytea*>(palloc(VARHDRSZ + row->explanation_length));
        SET_VARSIZE(bytes, VARHDRSZ + row->explanation_length);
        memcpy(VARDATA(bytes), row->explanation, row->explanation_length);
        set(target, C_EXPLANATION, PointerGetDatum(bytes));
    }
    ExecStoreVirtualTuple(slot);
}

// A row that may repeat the key of an open episode. The lead's own primary key says so first, in
// words that the app knows; only if the lead lands nevertheless the record's index has to.
struct Suspect {
    Oid index;
    ItemPointerData row;
};
constexpr int kSuspects = 64;

// False: the entry is in, but may break the index's uniqueness.
static bool insert_index_entry(Target* target, IndexTarget* index, TupleTableSlot* slot,
                               IndexUniqueCheck check) {
    ExprContext* context = GetPerTupleExprContext(target->executor);
    context->ecxt_scantuple = slot;
    if (index->predicate != NULL && !ExecQual(index->predicate, context))
        return true;
    Datum values[INDEX_MAX_KEYS];
    bool nulls[INDEX_MAX_KEYS];
    FormIndexDatum(index->info, slot, target->executor, values, nulls);
    Relation relation = target_index(index);
    if (!index->info->ii_Unique)
        check = UNIQUE_CHECK_NO;
    bool unique = index_insert(relation, values, nulls, &slot->tts_tid, target->relation, check,
                               false, index->info);
    return unique || check != UNIQUE_CHECK_PARTIAL;
}

// Where small things for one row or one batch live.
static MemoryContext row_context(void) {
    static MemoryContext context = NULL;
    if (context == NULL)
        context = AllocSetContextCreate(TopMemoryContext, "leadroute row", ALLOCSET_SMALL_SIZES);
    return context;
}

void record_copy(RecordRow* to, const RecordRow* from) {
    *to = *from;
    to->lead_id = pstrdup(from->lead_id);
    if (from->explanation_length > 0) {
        uint8* bytes = static_cast<uint8*>(palloc(from->explanation_length));
        memcpy(bytes, from->explanation, from->explanation_length);
        to->explanation = bytes;
    }
    if (from->has_label)
        to->label = datumCopy(from->label, false, -1);
    Datum* const arrays[] = {&to->needs, &to->avoid, &to->offered_to};
    for (Datum* array : arrays)
        if (*array != 0)
            *array = datumCopy(*array, false, -1);
}

// --- batches ---

struct RecordBuffer {
    MemoryContext context; // of the tuples
    MemoryContext holder;  // of the buffer and its slots
    Oid assignment;
    int count;
    Size bytes;
    int slot_count;
    TupleDesc columns; // of all slots: a copy for each would be more than the rows
    TupleTableSlot* slots[kBatch];
    RecordContacts contacts; // of the rows collected
    bool steps;              // some of them have a next step
    bool waiting;            // some of them have no rep
    int suspect_count;
    Suspect suspects[kSuspects];
};

static RecordBuffer* buffer_make(void) {
    MemoryContext holder =
        AllocSetContextCreate(TopTransactionContext, "leadroute batch", ALLOCSET_DEFAULT_SIZES);
    RecordBuffer* buffer =
        static_cast<RecordBuffer*>(MemoryContextAllocZero(holder, sizeof(RecordBuffer)));
    buffer->holder = holder;
    buffer->context = AllocSetContextCreate(holder, "leadroute batch rows", ALLOCSET_DEFAULT_SIZES);
    return buffer;
}

static void insert_index_entries(RecordBuffer** where, Target* target, IndexTarget* index,
                                 TupleTableSlot* slot) {
    if (!insert_index_entry(target, index, slot, UNIQUE_CHECK_PARTIAL)) {
        if (where != NULL && *where == NULL)
            *where = buffer_make();
        if (where != NULL && (*where)->suspect_count < kSuspects) {
            (*where)->assignment = RelationGetRelid(target->relation);
            (*where)->suspects[(*where)->suspect_count++] = {index->oid, slot->tts_tid};
        } else {
            insert_index_entry(target, index, slot, UNIQUE_CHECK_EXISTING);
        }
    }
    ResetPerTupleExprContext(target->executor);
}

void record_write(RecordBuffer** where, const RecordRow* row) {
    Target* target = target_open(row->assignment);
    MemoryContext caller = MemoryContextSwitchTo(row_context());
    MemoryContextReset(CurrentMemoryContext);
    fill_slot(target, row);
    table_tuple_insert(target->relation, target->slot, GetCurrentCommandId(true), 0, NULL);
    for (int i = 0; i < target->index_count; i++)
        if ((row->has_contact || !target->index[i].by_contact) &&
            (has_step(row) || !target->index[i].by_step) &&
            (!row->has_rep || !target->index[i].by_waiting))
            insert_index_entries(where, target, &target->index[i], target->slot);
    ExecClearTuple(target->slot);
    MemoryContextSwitchTo(caller);
    event_opened(row);
    claim_arrival_note(row);
}

void record_show(const RecordRow* row, Tuplestorestate* to) {
    Target* target = target_open(row->assignment);
    MemoryContext caller = MemoryContextSwitchTo(row_context());
    MemoryContextReset(CurrentMemoryContext);
    fill_slot(target, row);
    tuplestore_puttupleslot(to, target->slot);
    ExecClearTuple(target->slot);
    MemoryContextSwitchTo(caller);
}

bool record_buffer_knows(const RecordBuffer* buffer, const ContactKey* key, int64* rep) {
    return buffer != NULL && contacts_know(&buffer->contacts, key, rep);
}

void record_buffer(RecordBuffer** where, const RecordRow* row) {
    if (*where == NULL)
        *where = buffer_make();
    RecordBuffer* buffer = *where;
    if (buffer->count > 0 && buffer->assignment != row->assignment)
        record_flush(buffer);
    Target* target = target_open(row->assignment);
    buffer->assignment = row->assignment;

    MemoryContext caller = MemoryContextSwitchTo(row_context());
    MemoryContextReset(CurrentMemoryContext);
    fill_slot(target, row);
    MemoryContextSwitchTo(buffer->context);
    HeapTuple tuple = ExecCopySlotHeapTuple(target->slot);
    ExecClearTuple(target->slot);
    MemoryContextSwitchTo(buffer->holder);
    if (buffer->columns == NULL)
        buffer->columns = CreateTupleDescCopy(RelationGetDescr(target->relation));
    if (buffer->count == buffer->slot_count)
        buffer->slots[buffer->slot_count++] =
            MakeSingleTupleTableSlot(buffer->columns, &TTSOpsHeapTuple);
    ExecStoreHeapTuple(tuple, buffer->slots[buffer->count], false);
    buffer->count++;
    buffer->bytes += tuple->t_len;
    contacts_note(&buffer->contacts, buffer->holder, kBatch, row);
    buffer->steps = buffer->steps || has_step(row);
    buffer->waiting = buffer->waiting || !row->has_rep;
    MemoryContextSwitchTo(caller);
    event_opened(row);
    claim_arrival_note(row);
    if (buffer->count == kBatch || buffer->bytes > kBatchBytes)
        record_flush(buffer);
}

static void write_batch(RecordBuffer* buffer, Target* target) {
    table_multi_insert(target->relation, buffer->slots, buffer->count, GetCurrentCommandId(true), 0,
                       NULL);
    // index by index: each stays in cache
    for (int i = 0; i < target->index_count; i++) {
        if ((target->index[i].by_contact && buffer->contacts.count == 0) ||
            (target->index[i].by_step && !buffer->steps) ||
            (target->index[i].by_waiting && !buffer->waiting))
            continue;
        for (int k = 0; k < buffer->count; k++)
            insert_index_entries(&buffer, target, &target->index[i], buffer->slots[k]);
        MemoryContextReset(CurrentMemoryContext);
    }
    for (int k = 0; k < buffer->count; k++)
        ExecClearTuple(buffer->slots[k]);
}

void record_flush(RecordBuffer* buffer) {
    if (buffer == NULL || buffer->count == 0)
        return;
    Target* target = target_open(buffer->assignment);
    MemoryContext caller = MemoryContextSwitchTo(row_context());
    MemoryContextReset(CurrentMemoryContext);
    write_batch(buffer, target);
    MemoryContextSwitchTo(caller);
    MemoryContextReset(buffer->context);
    buffer->count = buffer->contacts.count = 0;
    buffer->bytes = 0;
    buffer->steps = buffer->waiting = false;
}

// The leads have landed: what still repeats an open episode is an error of ours.
static void check_suspects(RecordBuffer* buffer) {
    Target* target = target_open(buffer->assignment);
    TupleTableSlot* slot = table_slot_create(target->relation, NULL);
    for (int s = 0; s < buffer->suspect_count; s++) {
        if (!table_tuple_fetch_row_version(target->relation, &buffer->suspects[s].row, SnapshotSelf,
                                           slot))
            continue;
        for (int i = 0; i < target->index_count; i++)
            if (target->index[i].oid == buffer->suspects[s].index)
                insert_index_entry(target, &target->index[i], slot, UNIQUE_CHECK_EXISTING);
        ExecClearTuple(slot);
    }
    ExecDropSingleTupleTableSlot(slot);
    buffer->suspect_count = 0;
}

void record_finish(RecordBuffer* buffer) {
    record_flush(buffer);
    if (buffer != NULL && buffer->suspect_count > 0)
        check_suspects(buffer);
}

void record_buffer_free(RecordBuffer* buffer) {
    if (buffer != NULL)
        MemoryContextDelete(buffer->holder);
}
