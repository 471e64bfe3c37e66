// Gathering a transaction's events, and handing them over at its end; see events.h.
//
// Which row gives which event is said twice, here and in leadroute._events() (sql/events.sql),
// which derives the same events from the record.
#include "events.h"
#include "shared.h"

static char* gathered; // events, one after the other
static Size used;
static Size room;
static int count;
static int deepest;         // a level that none of the gathered exceeds
static bool overflowed;     // more than is gathered: left to be derived
static bool in_transaction; // leadroute.notify = transaction
static EventSlot* slot;     // of the ring; counted as used
static bool started;        // this transaction has asked for slot and mode

static void start(void) {
    started = true;
    in_transaction = leadroute_notify == NOTIFY_TRANSACTION;
    if (in_transaction)
        return;
    slot = event_slot_pin();
    if (slot != NULL && pg_atomic_read_u32(&slot->state) != WORKER_RUNNING)
        notifier_start(slot);
}

// A place for an event with a key of this length, for one rep or so many; NULL: it is not gathered.
static Event* add(int key_length, int rep_count = 0) {
    if (leadroute_notify == NOTIFY_OFF || (leadroute_notify == NOTIFY_WORKER && !shared_ready()))
        return NULL;
    if (!started)
        start();
    if (!in_transaction && slot == NULL)
        return NULL;
    count += Max(rep_count, 1);
    Size size = sizeof(Event) + MAXALIGN(Max(key_length, 0)) + sizeof(int64) * rep_count;
    if (!in_transaction && (used + size > kMostGathered || key_length > (int)kLongestKey))
        overflowed = true;
    if (overflowed)
        return NULL;
    if (used + size > room) {
        Size wanted = Max((Size)4096, Max(room * 2, size * 2));
        gathered =
            static_cast<char*>(gathered == NULL ? MemoryContextAlloc(TopMemoryContext, wanted)
                                                : repalloc_huge(gathered, wanted));
        room = wanted;
    }
    Event* event = reinterpret_cast<Event*>(gathered + used);
    used += size;
    memset(static_cast<void*>(event), 0, sizeof(Event));
    event->size = (uint32)size;
    event->level = GetCurrentTransactionNestLevel();
    event->due_at = DT_NOEND;
    event->key_length = key_length;
    event->rep_count = rep_count;
    deepest = Max(deepest, event->level);
    return event;
}

static const char* opening_kind(bool has_rep, const char* method, bool offered = false) {
    if (strcmp(method, "manual") == 0)
        return "manual";
    if (!has_rep)
        return offered ? "offered" : "waiting";
    if (strcmp(method, "reroute") == 0)
        return "rerouted";
    return strcmp(method, "claim") == 0 ? "claimed" : "assigned";
}

void event_opened(const RecordRow* row) {
    event_clock_note(row->decided_at);
    int length = (int)strlen(row->lead_id);
    // without NULLs
    const ArrayType* reps = row->offered_to == 0 ? NULL : DatumGetArrayTypeP(row->offered_to);
    int rep_count = reps == NULL ? 0 : ARR_DIMS(reps)[0];
    Event* event = add(length, rep_count);
    if (event == NULL)
        return;
    event->tenant = row->tenant;
    event->rep = row->has_rep ? row->rep : 0;
    event->rule = row->rule;
    event->at = row->decided_at;
    if (row->sla != 0)
        event->due_at = row->due_at;
    event->lead_table = row->lead_table;
    event->pool = row->pool;
    strlcpy(event->kind, opening_kind(row->has_rep, row->method, reps != NULL),
            sizeof(event->kind));
    memcpy(const_cast<char*>(event_key(event)), row->lead_id, length);
    if (rep_count > 0)
        memcpy(event_reps(event), ARR_DATA_PTR(reps), sizeof(int64) * rep_count);
}

// --- subtransactions ---

void events_keep(int level) {
    if (deepest < level)
        return;
    for (Size at = 0; at < used; at += reinterpret_cast<Event*>(gathered + at)->size) {
        Event* event = reinterpret_cast<Event*>(gathered + at);
        event->level = Min(event->level, level - 1);
    }
    deepest = level - 1;
}

// What this level gathered stands at the end.
void events_drop(int level) {
    if (deepest < level)
        return;
    Size at = 0;
    while (at < used && reinterpret_cast<Event*>(gathered + at)->level < level)
        at += reinterpret_cast<Event*>(gathered + at)->size;
    for (Size gone = at; gone < used;) {
        const Event* event = reinterpret_cast<Event*>(gathered + gone);
        count -= event_count(event);
        gone += event->size;
    }
    used = at;
    deepest = level - 1;
}

// --- the end of the transaction ---

void events_before_commit(void) {
    if (in_transaction && used > 0)
        events_send(gathered, used);
    else if (slot != NULL && (used > 0 || overflowed))
        event_publishing(GetTopTransactionIdIfAny());
}

void events_before_prepare(void) {
    if (in_transaction && used > 0)
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("cannot PREPARE a transaction that sends its events itself"),
                        errdetail("leadroute.notify is \"transaction\", and a prepared transaction "
                                  "cannot NOTIFY."),
                        errhint("Set leadroute.notify to \"worker\".")));
}

void events_commit(void) {
    if (slot == NULL || (used == 0 && !overflowed))
        return;
    bool lost = overflowed;
    if (!lost) {
        EventBatch header = {0, (uint32)(sizeof(EventBatch) + used), (uint32)count,
                             GetTopTransactionIdIfAny(), GetCurrentTransactionStopTimestamp()};
        lost = !event_put(slot, &header, gathered, used);
    }
    pg_atomic_fetch_add_u64(&slot->put, count);
    if (lost)
        pg_atomic_exchange_u32(&slot->lost, 1);
    event_publishing(InvalidTransactionId);
    event_slot_wake(slot);
}

void events_forget(void) {
    if (!started)
        return;
    if (slot != NULL) {
        event_publishing(InvalidTransactionId);
        event_slot_unpin(slot);
    }
    slot = NULL;
    used = 0;
    count = deepest = 0;
    overflowed = in_transaction = started = false;
}

// --- rows that SQL writes ---

static Datum column(const TriggerData* data, HeapTuple row, const char* name, bool* isnull) {
    TupleDesc descriptor = RelationGetDescr(data->tg_relation);
    int number = SPI_fnumber(descriptor, name);
    *isnull = true;
    return number <= 0 ? (Datum)0 : SPI_getbinval(row, descriptor, number, isnull);
}

static int64 whole(const TriggerData* data, HeapTuple row, const char* name, bool wide) {
    bool isnull;
    Datum value = column(data, row, name, &isnull);
    if (isnull)
        return 0;
    return wide ? DatumGetInt64(value) : DatumGetInt32(value);
}

static const char* words(const TriggerData* data, HeapTuple row, const char* name) {
    bool isnull;
    Datum value = column(data, row, name, &isnull);
    return isnull ? NULL : TextDatumGetCString(value);
}

static TimestampTz moment(const TriggerData* data, HeapTuple row, const char* name) {
    bool isnull;
    Datum value = column(data, row, name, &isnull);
    return isnull ? DT_NOEND : DatumGetTimestampTz(value);
}

// What a row is, by the trigger's argument.
struct RowMeaning {
    const char* argument;
    const char* when;      // column of its time
    const char* kind;      // column that says the kind, or NULL
    const char* told_kind; // else the kind
};
static const RowMeaning meanings[] = {{"opened", "decided_at", "method", NULL},
                                      {"ended", "ended_at", "end_reason", NULL},
                                      {"tank", "tank_at", NULL, "breached"},
                                      {"touched", "at", NULL, "touched"},
                                      {"step", "at", "kind", NULL},
                                      {"alert", "raised_at", "kind", NULL}};

static const RowMeaning* meaning_of(const char* argument) {
    for (const RowMeaning& meaning : meanings)
        if (strcmp(meaning.argument, argument) == 0)
            return &meaning;
    elog(ERROR, "rows of a trigger of leadroute have no meaning \"%s\"", argument);
    return NULL;
}

// Who lost a lead in the shark tank was released from it.
static const char* ending_kind(const char* reason) {
    return strcmp(reason, "claimed") == 0 ? "released" : reason;
}

void event_told(const ToldEvent* told) {
    event_clock_note(told->at);
    int length = told->lead_id == NULL ? -1 : (int)strlen(told->lead_id);
    Event* event = add(length);
    if (event == NULL)
        return;
    event->at = told->at;
    event->due_at = told->due_at;
    event->tenant = told->tenant;
    event->rep = told->rep;
    event->rule = told->rule;
    event->manager = told->manager;
    event->alert = told->alert;
    event->lead_table = told->lead_table;
    event->pool = told->pool;
    strlcpy(event->kind, told->kind, sizeof(event->kind));
    if (length > 0)
        memcpy(const_cast<char*>(event_key(event)), told->lead_id, length);
}

static void gather_row(const TriggerData* data, HeapTuple row, const char* what) {
    const RowMeaning* meaning = meaning_of(what);
    bool opened = strcmp(what, "opened") == 0;
    bool alert = strcmp(what, "alert") == 0;
    const char* kind = meaning->told_kind;
    if (kind == NULL)
        kind = words(data, row, meaning->kind);
    ToldEvent told = {};
    told.at = moment(data, row, meaning->when);
    told.due_at = DT_NOEND;
    if (kind == NULL) {
        event_clock_note(told.at);
        return;
    }
    told.lead_id = words(data, row, "lead_id");
    told.tenant = whole(data, row, "tenant", true);
    told.rep = whole(data, row, "rep", true);
    told.rule = whole(data, row, "rule", true);
    told.lead_table = (int32)whole(data, row, "lead_table", false);
    told.pool = (int32)whole(data, row, "pool", false);
    if (alert) {
        told.alert = whole(data, row, "id", true);
        told.manager = whole(data, row, "manager", true);
    } else {
        told.due_at = moment(data, row, "due_at");
    }
    told.kind = opened ? opening_kind(told.rep != 0, kind) : ending_kind(kind);
    event_told(&told);
}

extern "C" {
PG_FUNCTION_INFO_V1(leadroute_gather_event);

// AFTER ROW trigger of assignment, activity and alert; the argument says what the row means:
// opened, ended, tank, touched, step (of a policy), alert.
Datum leadroute_gather_event(PG_FUNCTION_ARGS) {
    if (!CALLED_AS_TRIGGER(fcinfo))
        ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
                        errmsg("this function can only be called as a trigger")));
    TriggerData* data = reinterpret_cast<TriggerData*>(fcinfo->context);
    if (!TRIGGER_FIRED_FOR_ROW(data->tg_event) || !TRIGGER_FIRED_AFTER(data->tg_event) ||
        data->tg_trigger->tgnargs != 1)
        ereport(ERROR,
                (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
                 errmsg("trigger \"%s\" is not as leadroute made it", data->tg_trigger->tgname)));
    HeapTuple row =
        TRIGGER_FIRED_BY_UPDATE(data->tg_event) ? data->tg_newtuple : data->tg_trigtuple;
    gather_row(data, row, data->tg_trigger->tgargs[0]);
    PG_RETURN_POINTER(NULL);
}
}
