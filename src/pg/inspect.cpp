// What is in shared memory, as rows: for the views, for verify(), for administrators.
#include "events.h"
#include "placement.h"
#include "shared.h"
#include "tenant.h"
#include "transaction.h"

extern "C" {
#include "access/parallel.h"
}

// What is looked at. In a transaction with a draft that is the draft's own block; but what members
// have received is counted in the shared one, which the others charge meanwhile.
struct Look {
    TenantKey key;
    TenantBlock* block;
    TenantBlock* counts; // where received and used leads are counted
    TenantSlot* slot;    // of counts; NULL: not loaded
    bool aside;          // counts tells of those aside, too: the draft has not edited the record
};

// Whoever may read the view may see what it stands on.
static void require_select(const char* view) {
    Oid oid = get_relname_relid(view, leadroute_schema());
    if (pg_class_aclcheck(oid, GetUserId(), ACL_SELECT) != ACLCHECK_OK)
        ereport(ERROR, (errcode(ERRCODE_LR_DENIED), errmsg("access to leadroute.%s denied", view),
                        errhint("GRANT SELECT ON leadroute.%s TO this role.", view)));
}

static void look(Look* l, int64 tenant) {
    shared_require();
    l->key = {MyDatabaseId, placement(InvalidOid, tenant), tenant};
    l->slot = NULL;
    l->aside = !record_is_edited(&l->key);
    if (!config_is_draft(tenant)) {
        l->block = l->counts = tenant_ready_copy(&l->key, &l->slot);
        if (l->block == NULL)
            memory_full();
        return;
    }
    l->block = tenant_draft(&l->key)->block;
    l->slot = slot_find(&l->key);
    l->counts = l->slot == NULL || l->slot->recount ? NULL : tenant_copy(&l->key, l->slot);
}

// Of a rep or member that the shared block does not know only the draft's block can tell.
static const DayCounts* rep_counts(const Look* l, int64 rep, TenantBlock** block) {
    const DayCounts* days = l->counts == NULL ? NULL : block_rep_days(l->counts, rep, l->aside);
    *block = days != NULL ? l->counts : l->block;
    return days != NULL ? days : block_rep_days(l->block, rep);
}

static const OpenCount* rep_open(const Look* l, int64 rep) {
    const OpenCount* open = l->counts == NULL ? NULL : block_rep_open(l->counts, rep, l->aside);
    return open != NULL ? open : block_rep_open(l->block, rep);
}

static const MemberState* member_counts(const Look* l, int32 pool, int64 rep, TenantBlock** block) {
    const MemberState* counts =
        l->counts == NULL ? NULL : block_member_state(l->counts, pool, rep, l->aside);
    *block = counts != NULL ? l->counts : l->block;
    return counts != NULL ? counts : block_member_state(l->block, pool, rep);
}

struct OwnTotal {
    core::Effect effect;
    int32 pool; // -1: any
    int64 rep;
    DateADT day; // DATEVAL_NOBEGIN: any
    int64 turns;
    int64 extra;  // what they cost beyond one each
    bool returns; // less those that it credits back
};

static void add_own(void* context, const Held* charge) {
    OwnTotal* total = static_cast<OwnTotal*>(context);
    if (charge->rep != total->rep || (total->pool >= 0 && charge->pool != total->pool) ||
        (total->day != DATEVAL_NOBEGIN && charge->day != total->day))
        return;
    if (charge->effect == total->effect) {
        total->turns += charge->turns;
        total->extra += charge->extra;
    }
    // what is credited is in the record as returned, in memory not yet
    else if (total->effect == core::Effect::turn && total->returns &&
             (charge->effect == core::Effect::credit_day ||
              (charge->effect == core::Effect::credit && total->day == DATEVAL_NOBEGIN))) {
        total->turns -= charge->turns;
        total->extra -= charge->extra;
    }
}

// This transaction's own turns in `block`. A draft's block has them as given, none in flight.
static OwnTotal own_turns(const Look* l, const TenantBlock* block, int32 pool, int64 rep,
                          DateADT day) {
    OwnTotal total = {core::Effect::turn, pool, rep, day, 0, 0, true};
    if (block == l->counts)
        charge_visit(l->slot, add_own, &total);
    return total;
}

static Datum cap_value(int32 cap, bool* isnull) {
    *isnull = cap == kNoCap;
    return Int32GetDatum(cap);
}

static int32 used_today(const DayCounts* days, DateADT today) {
    int32 used = days_used(days, today);
    return used == PG_INT32_MAX ? 0 : used;
}

static void put_days(const Look* l, ReturnSetInfo* rows, const TenantBlock* block,
                     const DayCounts* days, int32 pool, int64 rep) {
    for (int32 i = 0; i < days->count; i++) {
        Datum values[6];
        bool nulls[6] = {};
        int n = 0;
        if (pool >= 0)
            values[n++] = Int32GetDatum(pool);
        values[n++] = Int64GetDatum(rep);
        values[n++] = DateADTGetDatum(days->slot[i].day);
        values[n++] = Int32GetDatum(days->slot[i].used);
        values[n++] = Int32GetDatum(days->slot[i].in_flight);
        values[n++] = Int32GetDatum((int32)own_turns(l, block, pool, rep, days->slot[i].day).turns);
        tuplestore_putvalues(rows->setResult, rows->setDesc, values, nulls);
    }
}

extern "C" {
PG_FUNCTION_INFO_V1(leadroute_pool_memory);
PG_FUNCTION_INFO_V1(leadroute_day_memory);
PG_FUNCTION_INFO_V1(leadroute_member_day_memory);
PG_FUNCTION_INFO_V1(leadroute_open_memory);
PG_FUNCTION_INFO_V1(leadroute_in_flight);
PG_FUNCTION_INFO_V1(leadroute_stat);
PG_FUNCTION_INFO_V1(leadroute_forget);
PG_FUNCTION_INFO_V1(leadroute_explanation);
PG_FUNCTION_INFO_V1(leadroute_memory);
PG_FUNCTION_INFO_V1(leadroute_event_worker);

// _pool_memory(tenant) -> (pool, rep, weight, received, in_flight, own_in_flight, deficit, active,
// reason, member_used, member_cap, rep_used, rep_cap, open_used, open_cap, extra, in_flight_extra,
// own_extra)
Datum leadroute_pool_memory(PG_FUNCTION_ARGS) {
    Look l;
    look(&l, PG_GETARG_INT64(0));
    ReturnSetInfo* rows = start_rows(fcinfo);
    const ZoneDays* zones = zone_days(GetCurrentTimestamp(), true);
    for (int32 i = 0; i < l.block->member_count; i++) {
        MemberState* member = l.block->member(i);
        RepState* rep = l.block->rep(member->rep);
        PoolState* pool = l.block->pool(member->pool);
        // as of now, though no lead has come since midnight
        core::State state = member_state(l.block, i, zones);
        DateADT today = zones->day[rep->zone];
        TenantBlock *counts, *rep_block;
        const MemberState* counted = member_counts(&l, pool->id, rep->id, &counts);
        const DayCounts* rep_days = rep_counts(&l, rep->id, &rep_block);
        const OwnTotal own = own_turns(&l, counts, pool->id, rep->id, DATEVAL_NOBEGIN);
        Datum values[18];
        bool nulls[18] = {};
        values[0] = Int32GetDatum(pool->id);
        values[1] = Int64GetDatum(rep->id);
        values[2] = Float8GetDatum(l.block->tag(i)->weight);
        values[3] = Int64GetDatum(counted->received);
        values[4] = Int32GetDatum((int32)counted->in_flight);
        values[5] = Int32GetDatum((int32)own.turns);
        values[6] = Float8GetDatum(l.block->queue(pool).deficit(i - pool->first_member));
        values[7] = BoolGetDatum(state == core::State::turn);
        nulls[8] = state == core::State::turn;
        if (!nulls[8])
            values[8] = CStringGetTextDatum(core::state_name(state));
        values[9] = Int32GetDatum(used_today(&counted->days, today));
        values[10] = cap_value(member->cap, &nulls[10]);
        values[11] = Int32GetDatum(used_today(rep_days, today));
        values[12] = cap_value(rep->cap, &nulls[12]);
        const OpenCount* open = rep_open(&l, rep->id);
        nulls[13] = open->known != OpenKnown::yes;
        values[13] = Int32GetDatum(open->used);
        values[14] = cap_value(rep->open_cap, &nulls[14]);
        values[15] = Int64GetDatum(counted->extra);
        values[16] = Int64GetDatum(counted->in_flight_extra);
        values[17] = Int64GetDatum(own.extra);
        tuplestore_putvalues(rows->setResult, rows->setDesc, values, nulls);
    }
    return (Datum)0;
}

// _day_memory(tenant) -> (rep, day, used, in_flight, own_in_flight)
Datum leadroute_day_memory(PG_FUNCTION_ARGS) {
    Look l;
    look(&l, PG_GETARG_INT64(0));
    ReturnSetInfo* rows = start_rows(fcinfo);
    for (int32 i = 0; i < l.block->rep_count; i++) {
        TenantBlock* block;
        const DayCounts* days = rep_counts(&l, l.block->rep(i)->id, &block);
        put_days(&l, rows, block, days, -1, l.block->rep(i)->id);
    }
    return (Datum)0;
}

// _member_day_memory(tenant) -> (pool, rep, day, used, in_flight, own_in_flight)
Datum leadroute_member_day_memory(PG_FUNCTION_ARGS) {
    Look l;
    look(&l, PG_GETARG_INT64(0));
    ReturnSetInfo* rows = start_rows(fcinfo);
    for (int32 i = 0; i < l.block->member_count; i++) {
        TenantBlock* block;
        int32 pool = l.block->pool(l.block->member(i)->pool)->id;
        const MemberState* counted = member_counts(&l, pool, l.block->tag(i)->id, &block);
        put_days(&l, rows, block, &counted->days, pool, l.block->tag(i)->id);
    }
    return (Datum)0;
}

// _open_memory(tenant) -> (rep, open, in_flight, own_in_flight, own_ending)
Datum leadroute_open_memory(PG_FUNCTION_ARGS) {
    Look l;
    look(&l, PG_GETARG_INT64(0));
    ReturnSetInfo* rows = start_rows(fcinfo);
    for (int32 i = 0; i < l.block->rep_count; i++) {
        int64 rep = l.block->rep(i)->id;
        const OpenCount* open = rep_open(&l, rep);
        if (open->known != OpenKnown::yes)
            continue;
        bool shared_count = l.counts != NULL && open == block_rep_open(l.counts, rep, l.aside);
        OwnTotal turns = {core::Effect::turn, -1, rep, DATEVAL_NOBEGIN, 0, 0, false};
        OwnTotal ended = {core::Effect::end, -1, rep, DATEVAL_NOBEGIN, 0, 0, false};
        if (shared_count) {
            charge_visit(l.slot, add_own, &turns);
            charge_visit(l.slot, add_own, &ended);
        }
        Datum values[] = {Int64GetDatum(rep), Int32GetDatum(open->used),
                          Int32GetDatum(open->in_flight), Int32GetDatum((int32)turns.turns),
                          Int32GetDatum((int32)ended.turns)};
        bool nulls[5] = {};
        tuplestore_putvalues(rows->setResult, rows->setDesc, values, nulls);
    }
    return (Datum)0;
}

// _in_flight() -> (pid, since, reservations): of this database; pid null: prepared.
Datum leadroute_in_flight(PG_FUNCTION_ARGS) {
    require_select("in_flight");
    shared_require();
    ReturnSetInfo* rows = start_rows(fcinfo);
    for (int b = 0; b < shared->backend_count; b++) {
        const BackendEntry* backend = backend_entry(b);
        if (backend->pid == 0 || backend->reservations == 0 || backend->database != MyDatabaseId)
            continue;
        Datum values[] = {Int32GetDatum(backend->pid), TimestampTzGetDatum(backend->since),
                          Int64GetDatum(backend->reservations)};
        bool nulls[] = {false, false, false};
        tuplestore_putvalues(rows->setResult, rows->setDesc, values, nulls);
    }
    for (int i = 0; i < shared->slot_count; i++) {
        TenantSlot* slot = shared_slot(i);
        if (!slot->used || slot->pending_count == 0 || slot->key.database != MyDatabaseId)
            continue;
        int64 turns = 0;
        TimestampTz since = DT_NOEND;
        LWLockAcquire(slot_lock(slot), LW_SHARED);
        for (int32 k = 0; k < slot->pending_count; k++) {
            const PendingCharge* charge =
                static_cast<const PendingCharge*>(chunk_address(slot->pending)) + k;
            if (charge->effect != core::Effect::turn)
                continue;
            turns += charge->turns;
            since = Min(since, charge->since);
        }
        LWLockRelease(slot_lock(slot));
        if (turns == 0)
            continue;
        Datum values[] = {(Datum)0, TimestampTzGetDatum(since), Int64GetDatum(turns)};
        bool nulls[] = {true, false, false};
        tuplestore_putvalues(rows->setResult, rows->setDesc, values, nulls);
    }
    return (Datum)0;
}

constexpr int kEventCounters = 5;

// Of the database as a whole: the worker serves all tenants. Returns how often in a row no worker
// was to be had.
static int read_event_counters(int64* counters) {
    int failures = 0;
    memset(counters, 0, sizeof(int64) * kEventCounters);
    LWLockAcquire(events_lock(), LW_SHARED);
    EventSlot* slot = event_slot_find(MyDatabaseId, false);
    if (slot != NULL) {
        counters[0] = (int64)pg_atomic_read_u64(&slot->sent);
        counters[1] = (int64)(pg_atomic_read_u64(&slot->put) - pg_atomic_read_u64(&slot->taken));
        counters[2] = (int64)pg_atomic_read_u64(&slot->skipped);
        counters[3] = (int64)pg_atomic_read_u64(&slot->lag);
        counters[4] = slot->pid != 0 ? 1 : 0;
        failures = slot->failures;
    }
    LWLockRelease(events_lock());
    return failures;
}

static void put_event_counters(ReturnSetInfo* rows) {
    int64 counters[kEventCounters];
    (void)read_event_counters(counters);
    static const char* const names[] = {"events_sent", "events_pending", "events_skipped",
                                        "events_lag_us", "event_workers"};
    for (int i = 0; i < kEventCounters; i++) {
        Datum values[] = {CStringGetTextDatum(names[i]), Int64GetDatum(counters[i])};
        bool nulls[] = {false, false};
        tuplestore_putvalues(rows->setResult, rows->setDesc, values, nulls);
    }
}

// _stat(tenant) -> (name, value)
Datum leadroute_stat(PG_FUNCTION_ARGS) {
    shared_require();
    int64 tenant = PG_GETARG_INT64(0);
    TenantKey key = {MyDatabaseId, placement(InvalidOid, tenant), tenant};
    int64 counter[kCounters] = {};
    TenantSlot* slot = slot_find(&key);
    if (slot != NULL) {
        LWLockAcquire(slot_lock(slot), LW_SHARED);
        memcpy(counter, slot->counter, sizeof(counter));
        LWLockRelease(slot_lock(slot));
    }
    ReturnSetInfo* rows = start_rows(fcinfo);
    for (int i = 0; i < kCounters; i++) {
        Datum values[] = {CStringGetTextDatum(kCounterNames[i]), Int64GetDatum(counter[i])};
        bool nulls[] = {false, false};
        tuplestore_putvalues(rows->setResult, rows->setDesc, values, nulls);
    }
    put_event_counters(rows);
    return (Datum)0;
}

// _forget(tenant) -> bool: drops the tenant's memory unless turns are in flight.
Datum leadroute_forget(PG_FUNCTION_ARGS) {
    shared_require();
    int64 tenant = PG_GETARG_INT64(0);
    TenantKey key = {MyDatabaseId, placement(InvalidOid, tenant), tenant};
    PG_RETURN_BOOL(slot_forget(&key));
}

// _explanation(bytea) -> jsonb
Datum leadroute_explanation(PG_FUNCTION_ARGS) {
    constexpr int32 kRoom = 65536;
    bytea* bytes = PG_GETARG_BYTEA_PP(0);
    char* json = static_cast<char*>(palloc(kRoom));
    int32 length = core::to_json(reinterpret_cast<const uint8*>(VARDATA_ANY(bytes)),
                                 (int32)VARSIZE_ANY_EXHDR(bytes), json, kRoom);
    if (length < 0)
        ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
                        errmsg("the explanation of this decision cannot be read"),
                        errhint("It was written by another version, or damaged.")));
    return DirectFunctionCall1(jsonb_in, CStringGetDatum(json));
}

// _memory() -> (preloaded, tenants, tenant_limit, members, member_limit)
Datum leadroute_memory(PG_FUNCTION_ARGS) {
    TupleDesc columns;
    if (get_call_result_type(fcinfo, NULL, &columns) != TYPEFUNC_COMPOSITE)
        elog(ERROR, "return type must be a row type");
    Datum values[5] = {BoolGetDatum(shared_ready())};
    bool nulls[5] = {false, true, true, true, true};
    if (shared_ready()) {
        int32 tenants = 0;
        int64 members = 0;
        for (int i = 0; i < shared->slot_count; i++) {
            TenantSlot* slot = shared_slot(i);
            LWLockAcquire(slot_lock(slot), LW_SHARED);
            if (slot->used) {
                tenants++;
                members += DsaPointerIsValid(slot->chunk) ? slot_block(slot)->member_count : 0;
            }
            LWLockRelease(slot_lock(slot));
        }
        values[1] = Int32GetDatum(tenants);
        values[2] = Int32GetDatum(shared->slot_count);
        values[3] = Int64GetDatum(members);
        values[4] = Int32GetDatum(leadroute_max_members);
        memset(nulls, 0, sizeof(nulls));
    }
    PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(columns, values, nulls)));
}

// _event_worker() -> (running, failures, pending, skipped)
Datum leadroute_event_worker(PG_FUNCTION_ARGS) {
    TupleDesc columns;
    if (get_call_result_type(fcinfo, NULL, &columns) != TYPEFUNC_COMPOSITE)
        elog(ERROR, "return type must be a row type");
    Datum values[4] = {};
    bool nulls[4] = {true, true, true, true};
    if (shared_ready()) {
        int64 counters[kEventCounters];
        values[1] = Int32GetDatum(read_event_counters(counters));
        values[0] = BoolGetDatum(counters[4] != 0);
        values[2] = Int64GetDatum(counters[1]);
        values[3] = Int64GetDatum(counters[2]);
        memset(nulls, 0, sizeof(nulls));
    }
    PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(columns, values, nulls)));
}
}
