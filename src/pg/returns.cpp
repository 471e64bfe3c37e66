// Noting what is to be returned; triggers on the record, which see every way to end an episode.
#include "returns.h"
#include "backlog.h"
#include "tenant.h"
#include "transaction.h"

// The tenant's slot with a block in it. What a draft of this transaction has changed must not get
// into it.
static TenantSlot* loaded_slot(const TenantKey* key) {
    TenantSlot* slot = slot_find(key);
    if (config_is_draft(key->tenant) || (slot != NULL && tenant_usable(slot, key)))
        return slot;
    return tenant_ready(key);
}

bool return_note(const TenantKey* key, const Held* held, int64* ticket) {
    for (;;) {
        TenantSlot* slot = loaded_slot(key);
        if (slot == NULL)
            return false;
        charge_prepare();
        // whatever zone the rep is in, at commit it is too late to ask
        (void)zone_days(GetCurrentTimestamp(), true);
        bool noted = false;
        LWLockAcquire(slot_lock(slot), LW_EXCLUSIVE);
        bool usable = tenant_usable(slot, key);
        if (usable) {
            OpenCount* open = block_rep_open(slot_block(slot), held->rep);
            if (open != NULL && held->effect == core::Effect::end)
                open->ending++;
            // the open leads of a rep that is not known here are counted when it comes
            noted = open != NULL || held->effect != core::Effect::end;
            if (noted) {
                *ticket = charge_ticket(slot, GetCurrentTransactionStartTimestamp());
                slot->in_flight++;
            }
        }
        LWLockRelease(slot_lock(slot));
        if (noted) {
            charge_note(slot, held->pool, held->rep, held->day, held->effect, held->extra);
            if (slot->counter[COUNT_WAITING] > 0)
                backlog_prepare();
        }
        if (usable || config_is_draft(key->tenant))
            return usable;
        CHECK_FOR_INTERRUPTS();
    }
}

static Datum column(const TriggerData* data, HeapTuple tuple, const char* name, bool* isnull) {
    AttrNumber number = get_attnum(RelationGetRelid(data->tg_relation), name);
    return heap_getattr(tuple, number, RelationGetDescr(data->tg_relation), isnull);
}

static const TriggerData* trigger_data(FunctionCallInfo fcinfo) {
    if (!CALLED_AS_TRIGGER(fcinfo))
        ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
                        errmsg("this function can only be called as a trigger")));
    return reinterpret_cast<const TriggerData*>(fcinfo->context);
}

static TenantKey record_key(const TriggerData* data) {
    bool isnull;
    return {MyDatabaseId, RelationGetRelid(data->tg_relation),
            DatumGetInt64(column(data, data->tg_trigtuple, "tenant", &isnull))};
}

extern "C" {
PG_FUNCTION_INFO_V1(leadroute_record_ending);
PG_FUNCTION_INFO_V1(leadroute_record_credited);

// BEFORE UPDATE on assignment, for rows of a rep that end.
Datum leadroute_record_ending(PG_FUNCTION_ARGS) {
    const TriggerData* data = trigger_data(fcinfo);
    if (!shared_ready())
        PG_RETURN_POINTER(data->tg_newtuple);
    TenantKey key = record_key(data);
    bool isnull;
    Held held = {};
    held.effect = core::Effect::end;
    held.rep = DatumGetInt64(column(data, data->tg_trigtuple, "rep", &isnull));
    held.turns = 1;
    int64 ticket;
    if (!return_note(&key, &held, &ticket))
        record_edited(key.assignment, key.tenant, false);
    PG_RETURN_POINTER(data->tg_newtuple);
}

// BEFORE UPDATE on assignment, for rows whose turn is credited back: says in which ticket.
Datum leadroute_record_credited(PG_FUNCTION_ARGS) {
    const TriggerData* data = trigger_data(fcinfo);
    TenantKey key = record_key(data);
    Held held = {};
    bool isnull, no_pool, no_day;
    held.rep = DatumGetInt64(column(data, data->tg_newtuple, "rep", &isnull));
    Datum pool = column(data, data->tg_newtuple, "pool", &no_pool);
    Datum day = column(data, data->tg_newtuple, "day", &no_day);
    Datum returned = column(data, data->tg_newtuple, "credit_day", &isnull);
    held.pool = no_pool ? 0 : DatumGetInt32(pool);
    held.day = no_day ? 0 : DatumGetDateADT(day);
    held.effect = !isnull && DatumGetBool(returned) && !no_day ? core::Effect::credit_day
                                                               : core::Effect::credit;
    held.turns = 1;
    Datum cost = column(data, data->tg_newtuple, "cost", &isnull);
    held.extra = isnull ? 0 : core::extra_of(DatumGetFloat8(cost));
    int64 ticket = 0;
    if (!shared_ready() || !return_note(&key, &held, &ticket)) {
        if (shared_ready())
            record_edited(key.assignment, key.tenant, true);
        checkpoint_bar(&key);
    }
    int number = get_attnum(key.assignment, "credit_ticket");
    Datum value = Int64GetDatum(ticket);
    bool null = false;
    PG_RETURN_POINTER(heap_modify_tuple_by_cols(
        data->tg_newtuple, RelationGetDescr(data->tg_relation), 1, &number, &value, &null));
}
}
