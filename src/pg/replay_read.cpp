// What a replay reads: the tenant's record, whatever its lead tables, since reps are shared by
// them; and of the table at hand the leads. See replay.h.
#include "replay.h"

extern "C" {
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/lsyscache.h"
}

constexpr long kFetch = 1000;

static Datum column(HeapTuple row, int number, bool* isnull) {
    return SPI_getbinval(row, SPI_tuptable->tupdesc, number, isnull);
}

static int64 number_column(HeapTuple row, int number) {
    bool isnull;
    Datum value = column(row, number, &isnull);
    return isnull ? 0 : DatumGetInt64(value);
}

static bool bool_column(HeapTuple row, int number) {
    bool isnull;
    Datum value = column(row, number, &isnull);
    return !isnull && DatumGetBool(value);
}

static TimestampTz time_column(HeapTuple row, int number) {
    bool isnull;
    Datum value = column(row, number, &isnull);
    return isnull ? DT_NOEND : DatumGetTimestampTz(value);
}

// --- the record ---

// In the order of arrival within a lead: the episode's number is not settled while it is open.
static const char kRecord[] =
    "SELECT a.lead_table = $2, a.lead_id, a.decided_at, a.rep, a.rule, a.pool::bigint,"
    " CASE WHEN a.decided_at = t.attached_at THEN 'manual' ELSE a.method END,"
    " a.day, COALESCE(a.cost, 1), a.contact, a.ended_at, a.credited_at, a.credit_day,"
    " lag(a.lead_id) OVER lead IS NULL"
    "   OR lag(a.end_reason) OVER lead IN ('deleted', 'truncated', 'dropped', 'detached', 'moved')"
    " FROM leadroute.assignment a LEFT JOIN leadroute.lead_table t ON t.id = a.lead_table"
    " WHERE a.tenant = $1 AND a.decided_at < $3"
    " WINDOW lead AS (PARTITION BY a.lead_table, a.lead_id ORDER BY a.decided_at, a.episode)"
    " ORDER BY a.lead_table, a.lead_id, a.decided_at, a.episode";

static void read_past(const Replay* replay, Past* past, HeapTuple row) {
    bool isnull;
    past->at = time_column(row, 3);
    past->rep = number_column(row, 4);
    past->rule = number_column(row, 5);
    past->pool = (int32)number_column(row, 6);
    char* method = SPI_getvalue(row, SPI_tuptable->tupdesc, 7);
    past->manual = strcmp(method, "manual") == 0;
    past->sticky = strcmp(method, "sticky") == 0;
    pfree(method);
    past->day = DatumGetDateADT(column(row, 8, &isnull));
    past->has_day = !isnull;
    past->cost = DatumGetFloat8(column(row, 9, &isnull));
    past->contact = number_column(row, 10);
    (void)column(row, 10, &isnull);
    past->has_contact = !isnull;
    past->ended_at = time_column(row, 11);
    past->credited_at = time_column(row, 12);
    past->credits_day = bool_column(row, 13);
    past->life = replay->life_count - 1;
}

static void begin_life(Replay* replay, HeapTuple row, MemoryContext memory) {
    Life* life = &replay->lives[replay->life_count++];
    memset(static_cast<void*>(life), 0, sizeof(*life));
    bool isnull;
    const text* id = DatumGetTextPP(column(row, 2, &isnull));
    MemoryContext caller = MemoryContextSwitchTo(memory);
    life->lead_id = text_to_cstring(id);
    MemoryContextSwitchTo(caller);
    life->first = replay->past_count;
    life->ours = bool_column(row, 1);
    TimestampTz at = time_column(row, 3);
    life->in_time = life->ours && at >= replay->since;
}

template <typename Item>
static void make_room(Item** items, int32 count, int32* room, MemoryContext memory) {
    if (count < *room)
        return;
    *room = Max(1024, *room * 2);
    Size bytes = sizeof(Item) * *room;
    *items = static_cast<Item*>(*items == NULL ? MemoryContextAllocHuge(memory, bytes)
                                               : repalloc_huge(*items, bytes));
}

static void read_record(Replay* replay) {
    MemoryContext memory = CurrentMemoryContext;
    int32 past_room = 0, life_room = 0;
    OwnerScope owner;
    owner_scope_begin(&owner);
    SPI_connect();
    PushActiveSnapshot(GetLatestSnapshot());
    Oid types[] = {INT8OID, INT4OID, TIMESTAMPTZOID};
    Datum values[] = {Int64GetDatum(replay->key.tenant), Int32GetDatum(replay->table->id),
                      TimestampTzGetDatum(replay->until)};
    Portal portal = SPI_cursor_open_with_args(NULL, kRecord, 3, types, values, NULL, true,
                                              CURSOR_OPT_NO_SCROLL);
    for (;;) {
        SPI_cursor_fetch(portal, true, kFetch);
        if (SPI_processed == 0)
            break;
        CHECK_FOR_INTERRUPTS();
        for (uint64 i = 0; i < SPI_processed; i++) {
            HeapTuple row = SPI_tuptable->vals[i];
            make_room(&replay->pasts, replay->past_count, &past_room, memory);
            make_room(&replay->lives, replay->life_count, &life_room, memory);
            if (bool_column(row, 14))
                begin_life(replay, row, memory);
            replay->lives[replay->life_count - 1].count++;
            read_past(replay, &replay->pasts[replay->past_count++], row);
        }
        SPI_freetuptable(SPI_tuptable);
    }
    SPI_cursor_close(portal);
    PopActiveSnapshot();
    SPI_finish();
    owner_scope_end(&owner);
}

// --- the leads ---

// The lives whose lead may be there: the latest of each key.
static Datum wanted_ids(const Replay* replay, int32** lives, int32* count) {
    Datum* ids = static_cast<Datum*>(
        MemoryContextAllocHuge(CurrentMemoryContext, sizeof(Datum) * (replay->life_count + 1)));
    *lives = static_cast<int32*>(
        MemoryContextAllocHuge(CurrentMemoryContext, sizeof(int32) * (replay->life_count + 1)));
    *count = 0;
    for (int32 i = 0; i < replay->life_count; i++) {
        const Life* life = &replay->lives[i];
        const Life* next = i + 1 < replay->life_count ? life + 1 : NULL;
        if (!life->ours ||
            (next != NULL && next->ours == life->ours && strcmp(next->lead_id, life->lead_id) == 0))
            continue;
        (*lives)[*count] = i;
        ids[(*count)++] = CStringGetTextDatum(life->lead_id);
    }
    return PointerGetDatum(construct_array(ids, *count, TEXTOID, -1, false, TYPALIGN_INT));
}

static char* leads_query(const Replay* replay) {
    TupleDesc columns = RelationGetDescr(replay->relation);
    const LeadTable* table = replay->table;
    const char* key =
        quote_identifier(NameStr(TupleDescAttr(columns, table->key_column - 1)->attname));
    StringInfoData sql;
    initStringInfo(&sql);
    appendStringInfo(
        &sql,
        "SELECT k.n, l FROM pg_catalog.unnest($1) WITH ORDINALITY AS k (id, n)"
        " JOIN %s l ON l.%s OPERATOR(pg_catalog.=) k.id::%s",
        quote_qualified_identifier(get_namespace_name(RelationGetNamespace(replay->relation)),
                                   RelationGetRelationName(replay->relation)),
        key, format_type_be_qualified(table->key_type));
    if (table->tenant_column != InvalidAttrNumber)
        appendStringInfo(
            &sql, " AND l.%s OPERATOR(pg_catalog.=) $2",
            quote_identifier(NameStr(TupleDescAttr(columns, table->tenant_column - 1)->attname)));
    else
        appendStringInfoString(&sql, " AND $2 OPERATOR(pg_catalog.=) 0");
    return sql.data;
}

// With the caller's rights, and by the policies that are in force for it.
static void read_leads(Replay* replay) {
    MemoryContext memory = CurrentMemoryContext;
    int32* lives;
    int32 count;
    Datum ids = wanted_ids(replay, &lives, &count);
    char* sql = leads_query(replay);
    SPI_connect();
    PushActiveSnapshot(GetLatestSnapshot());
    Oid types[] = {TEXTARRAYOID, INT8OID};
    Datum values[] = {ids, Int64GetDatum(replay->key.tenant)};
    Portal portal =
        SPI_cursor_open_with_args(NULL, sql, 2, types, values, NULL, true, CURSOR_OPT_NO_SCROLL);
    for (;;) {
        SPI_cursor_fetch(portal, true, kFetch);
        if (SPI_processed == 0)
            break;
        CHECK_FOR_INTERRUPTS();
        for (uint64 i = 0; i < SPI_processed; i++) {
            HeapTuple row = SPI_tuptable->vals[i];
            bool isnull;
            Datum lead = column(row, 2, &isnull);
            Life* life = &replay->lives[lives[number_column(row, 1) - 1]];
            MemoryContext caller = MemoryContextSwitchTo(memory);
            life->row = DatumGetHeapTupleHeader(datumCopy(lead, false, -1));
            MemoryContextSwitchTo(caller);
        }
        SPI_freetuptable(SPI_tuptable);
    }
    SPI_cursor_close(portal);
    PopActiveSnapshot();
    SPI_finish();
    for (int32 i = 0; i < replay->life_count; i++)
        if (replay->lives[i].in_time && replay->lives[i].row == NULL)
            replay->missing++;
}

// --- names, and the order of time ---

static ReplayName* read_names(const char* sql, int64 tenant, int32* count) {
    MemoryContext memory = CurrentMemoryContext;
    OwnerScope owner;
    owner_scope_begin(&owner);
    SPI_connect();
    PushActiveSnapshot(GetLatestSnapshot());
    Oid types[] = {INT8OID};
    Datum values[] = {Int64GetDatum(tenant)};
    if (SPI_execute_with_args(sql, 1, types, values, NULL, true, 0) != SPI_OK_SELECT)
        elog(ERROR, "cannot read names");
    *count = (int32)SPI_processed;
    ReplayName* names = static_cast<ReplayName*>(
        MemoryContextAllocHuge(memory, sizeof(ReplayName) * (SPI_processed + 1)));
    for (int32 i = 0; i < *count; i++) {
        HeapTuple row = SPI_tuptable->vals[i];
        names[i].id = number_column(row, 1);
        names[i].name = MemoryContextStrdup(memory, SPI_getvalue(row, SPI_tuptable->tupdesc, 2));
    }
    PopActiveSnapshot();
    SPI_finish();
    owner_scope_end(&owner);
    return names;
}

static int compare_events(const void* a, const void* b) {
    const Event* x = static_cast<const Event*>(a);
    const Event* y = static_cast<const Event*>(b);
    if (x->at != y->at)
        return x->at < y->at ? -1 : 1;
    if (x->step != y->step)
        return x->step < y->step ? -1 : 1;
    return x->past < y->past ? -1 : x->past > y->past;
}

static void order_events(Replay* replay) {
    replay->events = static_cast<Event*>(MemoryContextAllocHuge(
        CurrentMemoryContext, sizeof(Event) * (3 * (Size)replay->past_count + 1)));
    for (int32 i = 0; i < replay->past_count; i++) {
        const Past* past = &replay->pasts[i];
        replay->events[replay->event_count++] = {past->at, i, Step::start};
        if (past->ended_at < replay->until)
            replay->events[replay->event_count++] = {past->ended_at, i, Step::end};
        if (past->credited_at < replay->until)
            replay->events[replay->event_count++] = {past->credited_at, i, Step::credit};
    }
    qsort(replay->events, replay->event_count, sizeof(Event), compare_events);
}

void replay_read(Replay* replay) {
    read_record(replay);
    read_leads(replay);
    replay->rules = read_names("SELECT id, name FROM leadroute.rule WHERE tenant = $1 ORDER BY id",
                               replay->key.tenant, &replay->rule_count);
    replay->pools =
        read_names("SELECT id::bigint, name FROM leadroute.pool WHERE tenant = $1 ORDER BY id",
                   replay->key.tenant, &replay->pool_count);
    order_events(replay);
}
