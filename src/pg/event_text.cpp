// Events as JSON, and as NOTIFY: on the channel of all, and on those of the rep and the manager
// concerned. A payload is an array of as many events as fit.
//
// Names are those of now. They are kept until the configuration changes, so that events of a busy
// database cost no query.
#include "events.h"
#include "shared.h"
#include "transaction.h"

extern "C" {
#include "commands/async.h"
#include "common/cryptohash.h"
#include "utils/json.h"
#include "utils/uuid.h"
}

constexpr int kMostPayload = 7999; // bytes that NOTIFY takes
constexpr int kIdBytes = 16;

// What the text needs to know beside the event itself.
struct EventNames {
    const char* lead_table;
    bool notify_key;
    pg_uuid_t salt;
    const char* pool;
};

// --- one event ---

// The id is made of what a row never changes, so that it is the same whenever the event is derived;
// an offer's of the rep, too, since one row gives several.
// The salt keeps a key that is not to be told from being guessed.
static void append_id(StringInfo out, const Event* event, const EventNames* names) {
    char head[128];
    int length =
        snprintf(head, sizeof(head), "%s/%lld/%d/%lld/%lld/", event->kind, (long long)event->tenant,
                 event->lead_table, (long long)event->at, (long long)event->alert);
    if (strcmp(event->kind, "offered") == 0)
        length += snprintf(head + length, sizeof(head) - length, "%lld/", (long long)event->rep);
    uint8 digest[32];
    pg_cryptohash_ctx* hash = pg_cryptohash_create(PG_SHA256);
    if (hash == NULL || pg_cryptohash_init(hash) < 0 ||
        pg_cryptohash_update(hash, names->salt.data, UUID_LEN) < 0 ||
        pg_cryptohash_update(hash, reinterpret_cast<const uint8*>(head), length) < 0 ||
        pg_cryptohash_update(hash, reinterpret_cast<const uint8*>(event_key(event)),
                             Max(event->key_length, 0)) < 0 ||
        pg_cryptohash_final(hash, digest, sizeof(digest)) < 0)
        elog(ERROR, "cannot compute the id of an event");
    pg_cryptohash_free(hash);
    for (int i = 0; i < kIdBytes; i++)
        appendStringInfo(out, "%02x", digest[i]);
}

static void append_text(StringInfo out, const char* name, const char* text) {
    appendStringInfo(out, ",\"%s\":", name);
    if (text == NULL)
        appendStringInfoString(out, "null");
    else
        escape_json(out, text);
}

static void append_number(StringInfo out, const char* name, int64 number) {
    if (number == 0)
        appendStringInfo(out, ",\"%s\":null", name);
    else
        appendStringInfo(out, ",\"%s\":%lld", name, (long long)number);
}

// In UTC, whatever the session's time zone.
static void append_time(StringInfo out, const char* name, TimestampTz at) {
    char text[MAXDATELEN + 1];
    int utc = 0;
    if (at == DT_NOEND)
        appendStringInfo(out, ",\"%s\":null", name);
    else
        appendStringInfo(out, ",\"%s\":\"%s\"", name,
                         JsonEncodeDateTime(text, TimestampTzGetDatum(at), TIMESTAMPTZOID, &utc));
}

static void append_event(StringInfo out, const Event* event, const EventNames* names, bool tell) {
    appendStringInfo(out, "{\"event\":");
    escape_json(out, event->kind);
    appendStringInfoString(out, ",\"id\":\"");
    append_id(out, event, names);
    appendStringInfoChar(out, '"');
    append_time(out, "at", event->at);
    appendStringInfo(out, ",\"tenant\":%lld", (long long)event->tenant);
    append_text(out, "lead_table", names->lead_table);
    char* key = tell && names->notify_key && event->key_length >= 0
                    ? pnstrdup(event_key(event), event->key_length)
                    : NULL;
    append_text(out, "lead_id", key);
    append_number(out, "rep", event->rep);
    append_text(out, "pool", names->pool);
    append_number(out, "rule", event->rule);
    append_time(out, "due_at", event->due_at);
    appendStringInfoChar(out, '}');
}

// --- names ---

struct NameKey {
    int64 tenant; // -1: a lead table
    int32 id;
    int32 unused;
};

struct NameEntry {
    NameKey key;
    bool found;
    bool notify_key;
    pg_uuid_t salt;
    char* name;
};

static HTAB* name_table;
static MemoryContext name_context;
static uint64 name_generation;
static uint64 name_serial;

static void forget_old_names(void) {
    uint64 generation = !shared_ready() ? 0
                                        : pg_atomic_read_u64(&shared->generation) +
                                              pg_atomic_read_u64(&shared->attachments);
    bool current = shared_ready() && name_table != NULL && name_generation == generation &&
                   name_serial == config_serial() && hash_get_num_entries(name_table) < 10000;
    if (current)
        return;
    if (name_context != NULL)
        MemoryContextDelete(name_context);
    name_table = NULL;
    name_context =
        AllocSetContextCreate(TopMemoryContext, "leadroute event names", ALLOCSET_SMALL_SIZES);
    HASHCTL control = {};
    control.keysize = sizeof(NameKey);
    control.entrysize = sizeof(NameEntry);
    control.hcxt = name_context;
    name_table =
        hash_create("leadroute event names", 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
    name_generation = generation;
    name_serial = config_serial();
}

// Reads the one row that the statement gives, if it does.
static void read_name(const char* statement, const NameKey* key, NameEntry* entry) {
    Oid types[] = {INT8OID, INT4OID};
    Datum values[] = {Int64GetDatum(key->tenant), Int32GetDatum(key->id)};
    OwnerScope owner;
    owner_scope_begin(&owner);
    SPI_connect();
    if (SPI_execute_with_args(statement, 2, types, values, NULL, true, 1) != SPI_OK_SELECT)
        elog(ERROR, "cannot read a name");
    entry->found = SPI_processed == 1;
    if (entry->found) {
        bool isnull;
        HeapTuple row = SPI_tuptable->vals[0];
        TupleDesc descriptor = SPI_tuptable->tupdesc;
        entry->name = MemoryContextStrdup(name_context, SPI_getvalue(row, descriptor, 1));
        entry->notify_key = DatumGetBool(SPI_getbinval(row, descriptor, 2, &isnull));
        entry->salt = *DatumGetUUIDP(SPI_getbinval(row, descriptor, 3, &isnull));
    }
    SPI_finish();
    owner_scope_end(&owner);
}

static const NameEntry* name_of(int64 tenant, int32 id) {
    NameKey key = {tenant, id, 0};
    NameEntry* entry = static_cast<NameEntry*>(hash_search(name_table, &key, HASH_FIND, NULL));
    if (entry != NULL)
        return entry;
    NameEntry read = {};
    read_name(tenant < 0 ? "SELECT name, notify_key, event_salt FROM leadroute.lead_table"
                           " WHERE id = $2 AND $1 < 0"
                         : "SELECT name, true, '00000000-0000-0000-0000-000000000000'::uuid"
                           " FROM leadroute.pool WHERE tenant = $1 AND id = $2",
              &key, &read);
    entry = static_cast<NameEntry*>(hash_search(name_table, &key, HASH_ENTER, NULL));
    read.key = key;
    *entry = read;
    return entry;
}

// False: its lead table is no longer attached, so nobody can know it.
static bool names_for(const Event* event, EventNames* names) {
    memset(static_cast<void*>(names), 0, sizeof(*names));
    if (event->lead_table != 0) {
        const NameEntry* table = name_of(-1, event->lead_table);
        if (!table->found)
            return false;
        names->lead_table = table->name;
        names->notify_key = table->notify_key;
        names->salt = table->salt;
    }
    if (event->pool != 0)
        names->pool = name_of(event->tenant, event->pool)->name;
    return true;
}

// --- channels ---

struct ChannelKey {
    int64 id;
    char kind; // 'a' all, 'r' rep, 'm' manager
    char unused[7];
};

struct Channel {
    ChannelKey key;
    StringInfoData payload; // without the closing bracket
};

static void channel_send(Channel* channel) {
    if (channel->payload.len == 0)
        return;
    char name[NAMEDATALEN] = "leadroute";
    if (channel->key.kind != 'a')
        snprintf(name, sizeof(name), "leadroute_%s_%lld",
                 channel->key.kind == 'r' ? "rep" : "manager", (long long)channel->key.id);
    appendStringInfoChar(&channel->payload, ']');
    Async_Notify(name, channel->payload.data);
    resetStringInfo(&channel->payload);
}

static void channel_add(HTAB* channels, char kind, int64 id, const StringInfoData* event) {
    ChannelKey key = {};
    key.id = id;
    key.kind = kind;
    bool found;
    Channel* channel = static_cast<Channel*>(hash_search(channels, &key, HASH_ENTER, &found));
    if (!found)
        initStringInfo(&channel->payload);
    if (channel->payload.len + event->len + 2 > kMostPayload)
        channel_send(channel);
    appendStringInfoChar(&channel->payload, channel->payload.len == 0 ? '[' : ',');
    appendBinaryStringInfo(&channel->payload, event->data, event->len);
}

// One event of one rep, onto its channels.
static void add_event(HTAB* channels, StringInfo text, const Event* event,
                      const EventNames* names) {
    resetStringInfo(text);
    append_event(text, event, names, true);
    if (text->len + 2 > kMostPayload) { // a key that long: the listener has the id
        resetStringInfo(text);
        append_event(text, event, names, false);
    }
    channel_add(channels, 'a', 0, text);
    if (event->alert == 0 && event->rep != 0)
        channel_add(channels, 'r', event->rep, text);
    if (event->manager != 0)
        channel_add(channels, 'm', event->manager, text);
}

static void add_event_of_each(HTAB* channels, StringInfo text, const Event* event,
                              const EventNames* names) {
    Event* each = static_cast<Event*>(palloc(event->size));
    memcpy(static_cast<void*>(each), event, event->size);
    for (int32 i = 0; i < event->rep_count; i++) {
        each->rep = event_reps(event)[i];
        add_event(channels, text, each, names);
    }
    pfree(each);
}

int events_send(const char* bytes, Size size) {
    MemoryContext mine =
        AllocSetContextCreate(CurrentMemoryContext, "leadroute events", ALLOCSET_DEFAULT_SIZES);
    MemoryContext caller = MemoryContextSwitchTo(mine);
    HASHCTL control = {};
    control.keysize = sizeof(ChannelKey);
    control.entrysize = sizeof(Channel);
    control.hcxt = mine;
    HTAB* channels =
        hash_create("leadroute channels", 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
    bool snapshot = ActiveSnapshotSet();
    if (!snapshot)
        PushActiveSnapshot(GetTransactionSnapshot());
    forget_old_names();
    StringInfoData text;
    initStringInfo(&text);
    int sent = 0;
    for (Size at = 0; at < size;) {
        const Event* event = reinterpret_cast<const Event*>(bytes + at);
        at += event->size;
        EventNames names;
        if (!names_for(event, &names))
            continue;
        if (event->rep_count == 0)
            add_event(channels, &text, event, &names);
        else
            add_event_of_each(channels, &text, event, &names);
        sent += event_count(event);
    }
    HASH_SEQ_STATUS all;
    hash_seq_init(&all, channels);
    for (void* channel = hash_seq_search(&all); channel != NULL; channel = hash_seq_search(&all))
        channel_send(static_cast<Channel*>(channel));
    if (!snapshot)
        PopActiveSnapshot();
    MemoryContextSwitchTo(caller);
    MemoryContextDelete(mine);
    return sent;
}

extern "C" {
PG_FUNCTION_INFO_V1(leadroute_event_json);

// _event_json(kind, tenant, lead_table, lead_id, rep, pool, rule, at, due_at, alert,
//             lead_table_name, pool_name, notify_key, salt) -> jsonb
Datum leadroute_event_json(PG_FUNCTION_ARGS) {
    text* key = PG_ARGISNULL(3) ? NULL : PG_GETARG_TEXT_PP(3);
    int length = key == NULL ? 0 : (int)VARSIZE_ANY_EXHDR(key);
    Event* event = static_cast<Event*>(palloc0(sizeof(Event) + length));
    event->key_length = key == NULL ? -1 : length;
    if (key != NULL)
        memcpy(const_cast<char*>(event_key(event)), VARDATA_ANY(key), length);
    strlcpy(event->kind, text_to_cstring(PG_GETARG_TEXT_PP(0)), sizeof(event->kind));
    event->tenant = PG_GETARG_INT64(1);
    event->lead_table = PG_ARGISNULL(2) ? 0 : PG_GETARG_INT32(2);
    event->rep = PG_ARGISNULL(4) ? 0 : PG_GETARG_INT64(4);
    event->rule = PG_ARGISNULL(6) ? 0 : PG_GETARG_INT64(6);
    event->at = PG_GETARG_TIMESTAMPTZ(7);
    event->due_at = PG_ARGISNULL(8) ? DT_NOEND : PG_GETARG_TIMESTAMPTZ(8);
    event->alert = PG_ARGISNULL(9) ? 0 : PG_GETARG_INT64(9);
    EventNames names = {};
    names.lead_table = PG_ARGISNULL(10) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(10));
    names.pool = PG_ARGISNULL(11) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(11));
    names.notify_key = !PG_ARGISNULL(12) && PG_GETARG_BOOL(12);
    if (!PG_ARGISNULL(13))
        names.salt = *PG_GETARG_UUID_P(13);
    StringInfoData json;
    initStringInfo(&json);
    append_event(&json, event, &names, true);
    return DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data));
}
}
