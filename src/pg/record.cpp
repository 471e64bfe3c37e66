// Writing assignment rows; see record.h.
//
// Relation handles belong to the transaction's own resource owner, so that a subtransaction that
// rolls back does not close them. Which indexes there are, and which of their predicates a row
// satisfies, is asked of the server (a DBA may add indexes); what it says is kept until the
// relation changes.
#include "record.h"
#include "block.h"
#include "events.h"

enum Column {
    C_TENANT,
    C_TICKET,
    C_DECIDED_AT,
    C_REP,
    C_RULE,
    C_LEAD_TABLE,
    C_EPISODE,
    C_POOL,
    C_DAY,
    C_REP_CAP,
    C_MEMBER_CAP,
    C_DEFICIT,
    C_TAG,
    C_LEAD_ID,
    C_METHOD,
    C_EXPLANATION,
    C_LABEL,
    C_OPEN_CAP,
    C_CONTACT,
    C_COST,
    kColumns
};
static const char* const column_names[kColumns] = {
    "tenant", "ticket",      "decided_at", "rep",        "rule",    "lead_table", "episode",
    "pool",   "day",         "rep_cap",    "member_cap", "deficit", "tag",        "lead_id",
    "method", "explanation", "label",      "open_cap",   "contact", "cost"};

constexpr int kMaxIndexes = 16;
constexpr int kBatch = 1000;
constexpr Size kBatchBytes = (Size)1024 * 1024;

struct IndexTarget {
    Oid oid;
    Relation relation; // open in this transaction, or NULL
    IndexInfo* info;
    ExprState* predicate; // NULL: every row
    bool by_contact;      // of rows with a contact alone
};

// An assignment relation as this session knows it. Lives in a context of its own.
struct Target {
    MemoryContext context;
    Relation relation; // open in this transaction, or NULL
    EState* executor;
    TupleTableSlot* slot;
    Oid oid;
    int index_count;
    AttrNumber column[kColumns];
    bool outdated;
    IndexTarget index[kMaxIndexes];
};

constexpr int kTargets = 4; // one, but on a distributed engine
static Target targets[kTargets];
static int next_target;
static bool any_open;
static bool callback_registered;

static void relation_changed(Datum, Oid relation) {
    for (Target& target : targets) {
        if (!OidIsValid(target.oid))
            continue;
        bool mine = relation == InvalidOid || relation == target.oid;
        for (int i = 0; i < target.index_count && !mine; i++)
            mine = target.index[i].oid == relation;
        target.outdated = target.outdated || mine;
    }
}

static void close_target(Target* target) {
    for (int i = 0; i < target->index_count; i++) {
        if (target->index[i].relation != NULL)
            index_close(target->index[i].relation, NoLock);
        target->index[i].relation = NULL;
    }
    if (target->relation != NULL)
        table_close(target->relation, NoLock);
    target->relation = NULL;
}

void record_close(void) {
    if (!any_open)
        return;
    ResourceOwner caller = CurrentResourceOwner;
    CurrentResourceOwner = TopTransactionResourceOwner;
    for (Target& target : targets)
        close_target(&target);
    CurrentResourceOwner = caller;
    any_open = false;
}

void record_abandon(void) {
    for (Target& target : targets) {
        target.relation = NULL;
        for (int i = 0; i < target.index_count; i++)
            target.index[i].relation = NULL;
    }
    any_open = false;
}

static bool is_written(const Target* target, AttrNumber column) {
    for (AttrNumber written : target->column)
        if (written == column)
            return true;
    return false;
}

// What a predicate asks of columns that no row written here fills is known beforehand: leaves out
// the tests that always hold, says whether one never does.
static bool never_holds(const Target* target, List** predicate) {
    List* rest = NIL;
    ListCell* cell;
    foreach (cell, *predicate) {
        const NullTest* test = static_cast<const NullTest*>(lfirst(cell));
        if (!IsA(test, NullTest) || test->argisrow || !IsA(test->arg, Var) ||
            is_written(target, reinterpret_cast<const Var*>(test->arg)->varattno))
            rest = lappend(rest, lfirst(cell));
        else if (test->nulltesttype == IS_NOT_NULL)
            return true;
    }
    *predicate = rest;
    return false;
}

// Is the index one of the rows with a contact alone?
static bool wants_contact(const Target* target, const List* predicate) {
    const ListCell* cell;
    foreach (cell, predicate) {
        const NullTest* test = static_cast<const NullTest*>(lfirst(cell));
        if (IsA(test, NullTest) && test->nulltesttype == IS_NOT_NULL && IsA(test->arg, Var) &&
            reinterpret_cast<const Var*>(test->arg)->varattno == target->column[C_CONTACT])
            return true;
    }
    return false;
}

static void describe_index(Target* target, Oid oid) {
    Relation index = index_open(oid, RowExclusiveLock);
    IndexTarget* entry = &target->index[target->index_count];
    entry->oid = oid;
    entry->relation = index;
    entry->info = BuildIndexInfo(index);
    List* predicate = entry->info->ii_Predicate;
    if (never_holds(target, &predicate)) {
        index_close(index, NoLock);
        memset(static_cast<void*>(entry), 0, sizeof(*entry));
        return;
    }
    entry->by_contact = wants_contact(target, predicate);
    entry->predicate = predicate == NIL ? NULL : ExecPrepareQual(predicate, target->executor);
    target->index_count++;
}

// Learns the relation's columns and indexes; it is open.
static void describe(Target* target) {
    target->context =
        AllocSetContextCreate(TopMemoryContext, "leadroute record", ALLOCSET_SMALL_SIZES);
    MemoryContext caller = MemoryContextSwitchTo(target->context);
    target->executor = CreateExecutorState();
    for (int c = 0; c < kColumns; c++) {
        target->column[c] = get_attnum(target->oid, column_names[c]);
        if (target->column[c] == InvalidAttrNumber)
            ereport(ERROR, (errcode(ERRCODE_LR_VERSIONS_DIFFER),
                            errmsg("relation \"%s\" has no column \"%s\"",
                                   RelationGetRelationName(target->relation), column_names[c]),
                            errhint("ALTER EXTENSION leadroute UPDATE;")));
    }
    List* indexes = RelationGetIndexList(target->relation);
    if (list_length(indexes) > kMaxIndexes)
        ereport(ERROR, (errcode(ERRCODE_LR_CONFIGURATION),
                        errmsg("relation \"%s\" has more than %d indexes",
                               RelationGetRelationName(target->relation), kMaxIndexes),
                        errhint("Drop those that are not needed.")));
    ListCell* cell;
    foreach (cell, indexes)
        describe_index(target, lfirst_oid(cell));
    target->slot = MakeSingleTupleTableSlot(CreateTupleDescCopy(RelationGetDescr(target->relation)),
                                            &TTSOpsVirtual);
    MemoryContextSwitchTo(caller);
    target->outdated = false;
}

static void forget_target(Target* target) {
    if (target->relation != NULL)
        close_target(target);
    if (target->context != NULL)
        MemoryContextDelete(target->context);
    memset(static_cast<void*>(target), 0, sizeof(*target));
}

static Target* find_target(Oid assignment) {
    for (Target& target : targets)
        if (target.oid == assignment)
            return &target;
    Target* target = &targets[next_target];
    next_target = (next_target + 1) % kTargets;
    forget_target(target);
    return target;
}

// The relation, opened for this transaction.
static Target* open_target(Oid assignment) {
    Target* target = find_target(assignment);
    if (target->relation != NULL && !target->outdated)
        return target;
    if (!callback_registered) {
        CacheRegisterRelcacheCallback(relation_changed, (Datum)0);
        callback_registered = true;
    }
    ResourceOwner caller = CurrentResourceOwner;
    CurrentResourceOwner = TopTransactionResourceOwner;
    any_open = true;
    if (target->outdated)
        forget_target(target);
    if (target->relation == NULL)
        target->relation = table_open(assignment, RowExclusiveLock);
    target->oid = assignment;
    if (target->outdated) { // it changed before the lock was ours
        forget_target(target);
        target->oid = assignment;
        target->relation = table_open(assignment, RowExclusiveLock);
    }
    if (target->context == NULL)
        describe(target);
    CurrentResourceOwner = caller;
    return target;
}

static Relation open_index(IndexTarget* index) {
    if (index->relation == NULL) {
        ResourceOwner caller = CurrentResourceOwner;
        CurrentResourceOwner = TopTransactionResourceOwner;
        index->relation = index_open(index->oid, RowExclusiveLock);
        CurrentResourceOwner = caller;
    }
    return index->relation;
}

// --- rows ---

static void set(Target* target, Column column, Datum value, bool present = true) {
    int i = target->column[column] - 1;
    target->slot->tts_values[i] = value;
    target->slot->tts_isnull[i] = !present;
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
    Relation relation = open_index(index);
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
}

// --- batches ---

struct RecordBuffer {
    MemoryContext context; // of the tuples
    MemoryContext holder;  // of the buffer and its slots
    Oid assignment;
    int count;
    Size bytes;
    int slot_count;
    TupleTableSlot* slots[kBatch];
    RecordContacts contacts; // of the rows collected
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
    Target* target = open_target(row->assignment);
    MemoryContext caller = MemoryContextSwitchTo(row_context());
    MemoryContextReset(CurrentMemoryContext);
    fill_slot(target, row);
    table_tuple_insert(target->relation, target->slot, GetCurrentCommandId(true), 0, NULL);
    for (int i = 0; i < target->index_count; i++)
        if (row->has_contact || !target->index[i].by_contact)
            insert_index_entries(where, target, &target->index[i], target->slot);
    ExecClearTuple(target->slot);
    MemoryContextSwitchTo(caller);
    event_opened(row);
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
    Target* target = open_target(row->assignment);
    buffer->assignment = row->assignment;

    MemoryContext caller = MemoryContextSwitchTo(row_context());
    MemoryContextReset(CurrentMemoryContext);
    fill_slot(target, row);
    MemoryContextSwitchTo(buffer->context);
    HeapTuple tuple = ExecCopySlotHeapTuple(target->slot);
    ExecClearTuple(target->slot);
    MemoryContextSwitchTo(buffer->holder);
    if (buffer->count == buffer->slot_count)
        buffer->slots[buffer->slot_count++] = MakeSingleTupleTableSlot(
            CreateTupleDescCopy(RelationGetDescr(target->relation)), &TTSOpsHeapTuple);
    ExecStoreHeapTuple(tuple, buffer->slots[buffer->count], false);
    buffer->count++;
    buffer->bytes += tuple->t_len;
    contacts_note(&buffer->contacts, buffer->holder, kBatch, row);
    MemoryContextSwitchTo(caller);
    event_opened(row);
    if (buffer->count == kBatch || buffer->bytes > kBatchBytes)
        record_flush(buffer);
}

static void write_batch(RecordBuffer* buffer, Target* target) {
    table_multi_insert(target->relation, buffer->slots, buffer->count, GetCurrentCommandId(true), 0,
                       NULL);
    // index by index: each stays in cache
    for (int i = 0; i < target->index_count; i++) {
        if (target->index[i].by_contact && buffer->contacts.count == 0)
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
    Target* target = open_target(buffer->assignment);
    MemoryContext caller = MemoryContextSwitchTo(row_context());
    MemoryContextReset(CurrentMemoryContext);
    write_batch(buffer, target);
    MemoryContextSwitchTo(caller);
    MemoryContextReset(buffer->context);
    buffer->count = buffer->contacts.count = 0;
    buffer->bytes = 0;
}

// The leads have landed: what still repeats an open episode is an error of ours.
static void check_suspects(RecordBuffer* buffer) {
    Target* target = open_target(buffer->assignment);
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

// Is the index on just these columns, of some rows?
static bool is_on(const Target* target, const IndexInfo* info, const Column* columns, int count) {
    if (info->ii_Predicate == NIL || info->ii_NumIndexKeyAttrs != count)
        return false;
    for (int k = 0; k < count; k++)
        if (info->ii_IndexAttrNumbers[k] != target->column[columns[k]])
            return false;
    return true;
}

bool record_index(Oid assignment, RecordKey key, RecordIndex* found) {
    static const Column lead[] = {C_TENANT, C_LEAD_TABLE, C_LEAD_ID};
    static const Column contact[] = {C_TENANT, C_LEAD_TABLE, C_CONTACT, C_DECIDED_AT};
    Target* target = open_target(assignment);
    for (int i = 0; i < target->index_count; i++) {
        const IndexInfo* info = target->index[i].info;
        if (key == RecordKey::open_lead ? info->ii_Unique && is_on(target, info, lead, 3)
                                        : is_on(target, info, contact, 4)) {
            *found = {target->relation, open_index(&target->index[i])};
            return true;
        }
    }
    return false;
}
