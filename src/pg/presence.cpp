// Signing in and out, and heartbeats; see presence.h.
//
// A row of leadroute.presence has a version that counts its changes but those of seen_at, so that
// whichever order commits reach shared memory in, the latest row counts there.
#include "presence.h"
#include "backlog.h"

#include "availability.h"
#include "growing.h"
#include "placement.h"
#include "restore.h"
#include "tenant.h"
#include "transaction.h"

// Least time between two heartbeats of a rep that are written to disk.
constexpr int64 kStoreEvery = USECS_PER_MINUTE;

struct Note {
    TenantKey key;
    RepPresence row;
    int level;
    bool rolled_back;
};
static Growing<Note> notes;

bool presence_changed_any(void) {
    return notes.count > 0;
}

bool presence_changed(int64 tenant) {
    for (int i = 0; i < notes.count; i++)
        if (notes.items[i].key.tenant == tenant)
            return true;
    return false;
}

static const Note* own_note(int64 tenant, int64 rep) {
    for (int i = notes.count - 1; i >= 0; i--)
        if (notes.items[i].key.tenant == tenant && notes.items[i].row.rep == rep &&
            !notes.items[i].rolled_back)
            return &notes.items[i];
    return NULL;
}

static void note(const Note* added) {
    notes.grow();
    notes.items[notes.count++] = *added;
    draft_outdated();
    backlog_prepare();
    // so that the callbacks know the zones of the reps
    (void)zone_days(GetCurrentTimestamp(), true);
}

void presence_before_prepare(void) {
    if (notes.count > 0)
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("cannot PREPARE a transaction that signed a rep in or out"),
                        errdetail("Nobody would be told of it when it is committed."),
                        errhint("Sign in and out in a transaction of its own.")));
}

void presence_commit(void) {
    if (notes.count == 0)
        return;
    const ZoneDays* zones = zone_days(GetCurrentTimestamp(), false);
    for (int i = 0; i < notes.count; i++) {
        const Note* n = &notes.items[i];
        TenantSlot* slot = n->rolled_back ? NULL : slot_find(&n->key);
        if (slot == NULL)
            continue;
        LWLockAcquire(slot_lock(slot), LW_EXCLUSIVE);
        if (slot->used && same_key(&slot->key, &n->key)) {
            slot->recent_presence[slot->presences++ % kRecentPresences] = n->row;
            if (DsaPointerIsValid(slot->chunk))
                presence_apply(slot_block(slot), &n->row, zones);
        }
        LWLockRelease(slot_lock(slot));
        backlog_eased(slot);
    }
}

void presence_end_level(int level, bool committed) {
    for (int i = 0; i < notes.count; i++) {
        if (notes.items[i].level < level)
            continue;
        notes.items[i].level = level - 1;
        notes.items[i].rolled_back = notes.items[i].rolled_back || !committed;
    }
}

void presence_forget(void) {
    notes.count = 0;
}

// --- rows ---

static Datum row_column(const TriggerData* data, HeapTuple row, const char* column, bool* isnull) {
    AttrNumber number = get_attnum(RelationGetRelid(data->tg_relation), column);
    return heap_getattr(row, number, RelationGetDescr(data->tg_relation), isnull);
}

static int64 number_column(const TriggerData* data, HeapTuple row, const char* column) {
    bool isnull;
    return DatumGetInt64(row_column(data, row, column, &isnull));
}

static int32 version_column(const TriggerData* data, HeapTuple row) {
    bool isnull;
    return DatumGetInt32(row_column(data, row, "version", &isnull));
}

static void note_row(const TriggerData* data, HeapTuple row) {
    Note n = {};
    int64 tenant = number_column(data, row, "tenant");
    n.key = {MyDatabaseId, placement(InvalidOid, tenant), tenant};
    n.row.rep = number_column(data, row, "rep");
    bool present; // not signed out
    (void)row_column(data, row, "signed_out_at", &present);
    TimestampTz seen = number_column(data, row, "seen_at");
    n.row.presence = {number_column(data, row, "signed_in_at"), present ? seen : DT_NOBEGIN, seen,
                      version_column(data, row)};
    n.level = GetCurrentTransactionNestLevel();
    note(&n);
}

enum class Heard : int32 { fine = 0, store = 1, signed_out = 2, timed_out = 3 };

// Notes in the block that the rep was heard of.
static Heard hear(RepState* rep, TimestampTz now) {
    if (rep == NULL || rep->presence.seen == DT_NOBEGIN)
        return Heard::signed_out;
    if (!rep_present(rep, now))
        return Heard::timed_out;
    rep->presence.seen = Max(rep->presence.seen, now);
    // also when the clock was set back: what is on disk would keep the rep signed in too long
    if (within(now, rep->presence.stored, rep->presence.stored + kStoreEvery))
        return Heard::fine;
    rep->presence.stored = now;
    return Heard::store;
}

extern "C" {
PG_FUNCTION_INFO_V1(leadroute_presence_changed);
PG_FUNCTION_INFO_V1(leadroute_hear);

// AFTER ROW on presence.
Datum leadroute_presence_changed(PG_FUNCTION_ARGS) {
    if (!CALLED_AS_TRIGGER(fcinfo))
        ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
                        errmsg("this function can only be called as a trigger")));
    TriggerData* data = reinterpret_cast<TriggerData*>(fcinfo->context);
    if (!shared_ready())
        PG_RETURN_POINTER(NULL);
    // a row that is gone has no version to go by
    if (TRIGGER_FIRED_BY_DELETE(data->tg_event))
        config_changed(number_column(data, data->tg_trigtuple, "tenant"), false);
    else if (TRIGGER_FIRED_BY_INSERT(data->tg_event))
        note_row(data, data->tg_trigtuple);
    else if (version_column(data, data->tg_trigtuple) != version_column(data, data->tg_newtuple))
        note_row(data, data->tg_newtuple);
    PG_RETURN_POINTER(NULL);
}

// _hear(tenant, rep): notes a heartbeat. 0: done, 1: and seen_at is to be written, 2: the rep is
// signed out, 3: it was heard of too long ago. Takes the tenant's lock; LR013 when memory is full.
Datum leadroute_hear(PG_FUNCTION_ARGS) {
    int64 tenant = PG_GETARG_INT64(0), rep = PG_GETARG_INT64(1);
    shared_require();
    const Note* own = own_note(tenant, rep);
    if (own != NULL)
        PG_RETURN_INT32(static_cast<int32>(own->row.presence.seen == DT_NOBEGIN ? Heard::signed_out
                                                                                : Heard::fine));
    TenantKey key = {MyDatabaseId, placement(InvalidOid, tenant), tenant};
    for (;;) {
        CHECK_FOR_INTERRUPTS();
        TenantSlot* slot = tenant_ready(&key);
        if (slot == NULL)
            memory_full();
        TimestampTz now = GetCurrentTimestamp();
        Heard heard = Heard::fine;
        LWLockAcquire(slot_lock(slot), LW_EXCLUSIVE);
        bool usable = tenant_usable(slot, &key);
        if (usable)
            heard = hear(rep_of(slot_block(slot), rep), now);
        LWLockRelease(slot_lock(slot));
        if (usable)
            PG_RETURN_INT32(static_cast<int32>(heard));
    }
}
}
