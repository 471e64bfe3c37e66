// Checkpoints: what each member had received when a set of tickets was settled, as one row of
// leadroute.checkpoint, so that a rebuild reads only the rows of later (or then unsettled) tickets.
//
// Written now and then by an inserting transaction, in that transaction: if it rolls back the next
// one writes it. The row says which tickets were in flight, so it need not wait for a quiet moment.
#include "placement.h"
#include "tenant.h"
#include "transaction.h"

extern "C" {
#include "utils/fmgroids.h"
#include "catalog/pg_type.h"
}

constexpr int64 kLeastInterval = 1000;
constexpr int64 kTurnsPerMember = 8;

bool checkpoint_due(const TenantSlot* slot) {
    // read without the lock: a hint
    return slot->checkpoint_by == 0 && slot->checkpoint_wanted;
}

// A row of the checkpoint under construction.
struct Image {
    int64 ticket;
    TimestampTz since;
    int32 members;
    int32 in_flight;
    int32 room_members;
    int32 room_in_flight;
    Datum* pool;
    Datum* rep;
    Datum* received;
    Datum* deficit;
    Datum* start;
    Datum* extra;
    bool has_extra; // of anybody
    Datum* ticket_in_flight;
};

static void image_members(Image* image, TenantBlock* block) {
    for (int32 p = 0; p < block->pool_count; p++) {
        PoolState* pool = block->pool(p);
        core::FairQueue queue = block->queue(pool);
        for (int32 k = 0; k < pool->queue.lane_count; k++)
            block->lane(pool->first_lane + k)->scratch = 0;
        for (int32 k = 0; k < pool->queue.member_count; k++) {
            const MemberState* member = block->member(pool->first_member + k);
            if (member->reason == core::State::turn)
                block->lane_of(pool->first_member + k)->scratch +=
                    core::cost_of(member->in_flight, member->in_flight_extra);
        }
        for (int32 k = 0; k < pool->queue.member_count; k++) {
            int32 i = pool->first_member + k;
            MemberState* member = block->member(i);
            core::Member* tag = block->tag(i);
            // as if nothing in flight had been given out
            const core::Lane* lane = block->lane_of(i);
            double passed = lane->scratch * ldexp((double)lane->lead_step, -64);
            double deficit =
                queue.deficit(k) + core::cost_of(member->in_flight, member->in_flight_extra);
            if (member->reason == core::State::turn)
                deficit -= tag->weight * passed;
            image->pool[image->members] = Int32GetDatum(pool->id);
            image->rep[image->members] = Int64GetDatum(tag->id);
            image->received[image->members] = Int64GetDatum(member->received - member->in_flight);
            image->deficit[image->members] = Float8GetDatum(deficit);
            image->start[image->members] =
                Float8GetDatum(ldexp((double)lane->now, -64) - passed - deficit / tag->weight);
            int64 extra = member->extra - member->in_flight_extra;
            image->extra[image->members] = Int64GetDatum(extra);
            image->has_extra = image->has_extra || extra != 0;
            image->members++;
        }
    }
}

// Tickets that are not settled. False: more than are known, or than there is room for.
static bool image_tickets(Image* image, TenantSlot* slot) {
    for (int b = 0; b < shared->backend_count; b++) {
        const BackendEntry* backend = backend_entry(b);
        if (backend->pid == 0)
            continue;
        if (backend->overflow)
            return false;
        for (int t = 0; t < backend->count; t++) {
            if (backend->tickets[t].slot != slot ||
                backend->tickets[t].incarnation != slot->incarnation)
                continue;
            if (image->in_flight == image->room_in_flight)
                return false;
            image->ticket_in_flight[image->in_flight++] = Int64GetDatum(backend->tickets[t].ticket);
            image->since = Min(image->since, backend->since);
        }
    }
    const PendingCharge* pending =
        slot->pending_count == 0 ? NULL : static_cast<PendingCharge*>(chunk_address(slot->pending));
    for (int32 i = 0; i < slot->pending_count; i++) {
        if (pending[i].effect == core::Effect::end)
            continue; // what is open is no part of a checkpoint
        // rows without a ticket cannot be told from those of others
        if (image->in_flight == image->room_in_flight || pending[i].ticket == 0)
            return false;
        image->ticket_in_flight[image->in_flight++] = Int64GetDatum(pending[i].ticket);
        image->since = Min(image->since, pending[i].since);
    }
    return true;
}

static Datum array_of(Datum* values, int count, Oid type) {
    int size = type == INT4OID ? 4 : 8;
    char align = type == INT4OID ? TYPALIGN_INT : TYPALIGN_DOUBLE;
    return PointerGetDatum(construct_array(values, count, type, size, true, align));
}

static void image_allocate(Image* image, int32 members, int32 tickets) {
    image->room_members = members;
    image->room_in_flight = tickets;
    Datum** columns[] = {&image->pool,    &image->rep,   &image->received,
                         &image->deficit, &image->start, &image->extra};
    for (Datum** column : columns)
        *column = static_cast<Datum*>(
            MemoryContextAllocHuge(CurrentMemoryContext, sizeof(Datum) * (members + 1)));
    image->ticket_in_flight = static_cast<Datum*>(palloc(sizeof(Datum) * (tickets + 1)));
}

// Claims the writing of the checkpoint and takes its image under one hold of the lock.
static bool image_take(Image* image, TenantSlot* slot, const TenantKey* key) {
    for (;;) {
        int32 members = 0, tickets = 0;
        bool taken = false;
        LWLockAcquire(slot_lock(slot), LW_EXCLUSIVE);
        bool usable = tenant_usable(slot, key) && slot->checkpoint_by == 0 &&
                      slot->checkpoint_wanted && !slot->recount && !edits_open(key);
        if (usable) {
            TenantBlock* block = slot_block(slot);
            members = block->member_count;
            tickets = shared->backend_count + slot->pending_count;
            if (image->pool != NULL && members <= image->room_members &&
                tickets <= image->room_in_flight) {
                image->ticket = slot->ticket;
                image->since = GetCurrentTimestamp();
                taken = image_tickets(image, slot);
                usable = taken;
                if (taken) {
                    image_members(image, block);
                    slot->checkpoint_by = MyProcPid;
                }
            }
        }
        LWLockRelease(slot_lock(slot));
        if (taken || !usable)
            return taken;
        image_allocate(image, members, tickets + 64);
    }
}

// Older ones go, but for those that a transaction still open has deleted: a lead waits for nobody.
// Under a stricter isolation deleting what another transaction deleted would be an error.
static void delete_older(int64 tenant, int64 ticket) {
    if (IsolationUsesXactSnapshot())
        return;
    Oid types[] = {INT8OID, INT8OID};
    Datum values[] = {Int64GetDatum(tenant), Int64GetDatum(ticket)};
    SPI_execute_with_args("WITH old AS MATERIALIZED (SELECT c.ticket FROM leadroute.checkpoint c"
                          "  WHERE c.tenant = $1 AND c.ticket < $2 FOR UPDATE SKIP LOCKED)"
                          " DELETE FROM leadroute.checkpoint c USING old"
                          " WHERE c.tenant = $1 AND c.ticket = old.ticket",
                          2, types, values, NULL, false, 0);
}

static void image_store(const Image* image, int64 tenant) {
    OwnerScope owner;
    owner_scope_begin(&owner);
    SPI_connect();
    Oid types[] = {INT8OID,      INT8OID,      TIMESTAMPTZOID, INT8ARRAYOID,   INT4ARRAYOID,
                   INT8ARRAYOID, INT8ARRAYOID, FLOAT8ARRAYOID, FLOAT8ARRAYOID, INT8ARRAYOID};
    Datum values[] = {Int64GetDatum(tenant),
                      Int64GetDatum(image->ticket),
                      TimestampTzGetDatum(image->since),
                      array_of(image->ticket_in_flight, image->in_flight, INT8OID),
                      array_of(image->pool, image->members, INT4OID),
                      array_of(image->rep, image->members, INT8OID),
                      array_of(image->received, image->members, INT8OID),
                      array_of(image->deficit, image->members, FLOAT8OID),
                      array_of(image->start, image->members, FLOAT8OID),
                      image->has_extra ? array_of(image->extra, image->members, INT8OID) : 0};
    const char* nulls = image->has_extra ? NULL : "         n";
    // ON CONFLICT: somebody may just have written one with this ticket
    int result = SPI_execute_with_args(
        "INSERT INTO leadroute.checkpoint (tenant, ticket, taken_at, since, in_flight, pools, reps,"
        " received, deficit, start, extra)"
        " VALUES ($1, $2, clock_timestamp(), $3, $4, $5, $6, $7, $8, $9, $10)"
        " ON CONFLICT DO NOTHING",
        10, types, values, nulls, false, 0);
    if (result != SPI_OK_INSERT)
        elog(ERROR, "cannot write a checkpoint: %s", SPI_result_code_string(result));
    delete_older(tenant, image->ticket);
    SPI_finish();
    owner_scope_end(&owner);
}

// The highest ticket of a row of leadroute.checkpoint, of prepared transactions too; 0: none.
static int64 stored_ticket(int64 tenant) {
    Relation table =
        table_open(get_relname_relid("checkpoint", leadroute_schema()), AccessShareLock);
    Relation index =
        index_open(get_relname_relid("checkpoint_pkey", leadroute_schema()), AccessShareLock);
    ScanKeyData scan_key;
    ScanKeyInit(&scan_key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(tenant));
    IndexScanDesc scan = begin_index_scan(table, index, SnapshotAny, 1);
    index_rescan(scan, &scan_key, 1, NULL, 0);
    TupleTableSlot* row = table_slot_create(table, NULL);
    int64 ticket = 0;
    bool isnull;
    if (index_getnext_slot(scan, BackwardScanDirection, row))
        ticket = DatumGetInt64(
            slot_getattr(row, get_attnum(RelationGetRelid(table), "ticket"), &isnull));
    ExecDropSingleTupleTableSlot(row);
    index_endscan(scan);
    index_close(index, AccessShareLock);
    table_close(table, AccessShareLock);
    return ticket;
}

void checkpoint_write_if_due(TenantSlot* slot, const TenantKey* key) {
    if (!checkpoint_due(slot) || config_is_draft(key->tenant))
        return;
    MemoryContext context =
        AllocSetContextCreate(CurrentMemoryContext, "leadroute checkpoint", ALLOCSET_DEFAULT_SIZES);
    MemoryContext caller = MemoryContextSwitchTo(context);
    Image image = {};
    if (image_take(&image, slot, key)) {
        checkpoint_note(slot);
        // One with this ticket says the same. It is looked for beforehand, since under a stricter
        // isolation ON CONFLICT is an error if that one is younger than the snapshot.
        if (stored_ticket(key->tenant) < image.ticket)
            image_store(&image, key->tenant);
    }
    MemoryContextSwitchTo(caller);
    MemoryContextDelete(context);
}

// --- making them void ---
//
// The editing transaction writes a row of its own with a ticket higher than that of any checkpoint
// taken so far, committed or not; the highest is the one that is read. As long as it is open nobody
// takes another, and after it has committed nobody does before memory was counted anew.

// Higher than the ticket of any checkpoint that anybody has taken: stored, or about to be.
static int64 bar_ticket(const TenantKey* key) {
    int64 ticket = stored_ticket(key->tenant) + 1;
    TenantSlot* slot = shared_ready() ? slot_find(key) : NULL;
    if (slot == NULL)
        return ticket;
    LWLockAcquire(slot_lock(slot), LW_EXCLUSIVE);
    if (slot->used && same_key(&slot->key, key))
        slot->ticket = ticket = Max(ticket, slot->ticket + 1);
    LWLockRelease(slot_lock(slot));
    return ticket;
}

void checkpoint_bar(const TenantKey* key) {
    // once for each tenant and (sub)transaction: a rollback takes the row away
    static SubTransactionId last_transaction = InvalidSubTransactionId;
    static LocalTransactionId last_top = InvalidLocalTransactionId;
    static TenantKey last = {};
    if (last_top == local_transaction() && last_transaction == GetCurrentSubTransactionId() &&
        same_key(&last, key))
        return;
    if (shared_ready())
        edits_begin(key->tenant);
    OwnerScope owner;
    owner_scope_begin(&owner);
    SPI_connect();
    int64 ticket = bar_ticket(key);
    Oid types[] = {INT8OID, INT8OID};
    Datum values[] = {Int64GetDatum(key->tenant), Int64GetDatum(ticket)};
    // ON CONFLICT: another one who edits has written it
    if (SPI_execute_with_args(
            "INSERT INTO leadroute.checkpoint (tenant, ticket, taken_at, since, in_flight, pools,"
            " reps, received, deficit, start)"
            " VALUES ($1, $2, clock_timestamp(), '-infinity', '{}', '{}', '{}', '{}', '{}', '{}')"
            " ON CONFLICT DO NOTHING",
            2, types, values, NULL, false, 0) != SPI_OK_INSERT)
        elog(ERROR, "cannot make the checkpoints of leadroute void");
    delete_older(key->tenant, ticket);
    SPI_finish();
    owner_scope_end(&owner);
    last_top = local_transaction();
    last_transaction = GetCurrentSubTransactionId();
    last = *key;
}

void checkpoints_drop(void) {
    OwnerScope owner;
    owner_scope_begin(&owner);
    SPI_connect();
    if (SPI_execute("DELETE FROM leadroute.checkpoint", false, 0) != SPI_OK_DELETE)
        elog(ERROR, "cannot delete checkpoints of leadroute");
    SPI_finish();
    owner_scope_end(&owner);
}

// --- reading ---

static void* array_values(SPITupleTable* table, int column, int* count) {
    bool isnull;
    Datum value = SPI_getbinval(table->vals[0], table->tupdesc, column, &isnull);
    if (isnull) {
        *count = 0;
        return NULL;
    }
    ArrayType* array = DatumGetArrayTypeP(value);
    *count = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
    return ARR_DATA_PTR(array);
}

static int compare_int64(const void* a, const void* b) {
    int64 x = *static_cast<const int64*>(a), y = *static_cast<const int64*>(b);
    return x < y ? -1 : (x > y ? 1 : 0);
}

static int compare_members(const void* a, const void* b) {
    const CheckpointMember* x = static_cast<const CheckpointMember*>(a);
    const CheckpointMember* y = static_cast<const CheckpointMember*>(b);
    if (x->pool != y->pool)
        return x->pool < y->pool ? -1 : 1;
    return x->rep < y->rep ? -1 : (x->rep > y->rep ? 1 : 0);
}

static void fill_checkpoint(Checkpoint* checkpoint, SPITupleTable* table, MemoryContext context) {
    bool isnull;
    int tickets, pools, reps, received, deficits, starts, extras;
    checkpoint->ticket = DatumGetInt64(SPI_getbinval(table->vals[0], table->tupdesc, 1, &isnull));
    checkpoint->since =
        DatumGetTimestampTz(SPI_getbinval(table->vals[0], table->tupdesc, 2, &isnull));
    int64* ticket = static_cast<int64*>(array_values(table, 3, &tickets));
    int32* pool = static_cast<int32*>(array_values(table, 4, &pools));
    int64* rep = static_cast<int64*>(array_values(table, 5, &reps));
    int64* total = static_cast<int64*>(array_values(table, 6, &received));
    double* deficit = static_cast<double*>(array_values(table, 7, &deficits));
    double* start = static_cast<double*>(array_values(table, 8, &starts));
    int64* extra = static_cast<int64*>(array_values(table, 9, &extras));
    checkpoint->found = pools == reps && reps == received && received == deficits &&
                        deficits == starts && (extra == NULL || extras == starts) &&
                        !TIMESTAMP_IS_NOBEGIN(checkpoint->since);
    if (!checkpoint->found)
        return;
    checkpoint->in_flight_count = tickets;
    checkpoint->in_flight =
        static_cast<int64*>(MemoryContextAlloc(context, sizeof(int64) * (tickets + 1)));
    if (tickets > 0)
        memcpy(checkpoint->in_flight, ticket, sizeof(int64) * tickets);
    qsort(checkpoint->in_flight, tickets, sizeof(int64), compare_int64);
    checkpoint->member_count = pools;
    checkpoint->members = static_cast<CheckpointMember*>(
        MemoryContextAllocHuge(context, sizeof(CheckpointMember) * (pools + 1)));
    for (int i = 0; i < pools; i++)
        checkpoint->members[i] = {pool[i],    rep[i],   total[i],
                                  deficit[i], start[i], extra == NULL ? 0 : extra[i]};
    qsort(checkpoint->members, pools, sizeof(CheckpointMember), compare_members);
}

void checkpoint_read(int64 tenant, Checkpoint* checkpoint) {
    MemoryContext context = CurrentMemoryContext;
    memset(checkpoint, 0, sizeof(*checkpoint));
    OwnerScope owner;
    owner_scope_begin(&owner);
    SPI_connect();
    PushActiveSnapshot(GetLatestSnapshot());
    Oid types[] = {INT8OID};
    Datum values[] = {Int64GetDatum(tenant)};
    if (SPI_execute_with_args(
            "SELECT ticket, since, in_flight, pools, reps, received, deficit, start, extra"
            " FROM leadroute.checkpoint WHERE tenant = $1"
            " ORDER BY ticket DESC LIMIT 1",
            1, types, values, NULL, true, 1) != SPI_OK_SELECT)
        elog(ERROR, "cannot read the checkpoints of leadroute");
    if (SPI_processed == 1)
        fill_checkpoint(checkpoint, SPI_tuptable, context);
    PopActiveSnapshot();
    SPI_finish();
    owner_scope_end(&owner);
}
