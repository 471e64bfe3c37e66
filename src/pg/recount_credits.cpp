// Turns that were credited back: a row counts as received with its own ticket, and no longer with
// that of its credit, which may be newer than the checkpoint while the row is not.
#include "recount.h"

extern "C" {
#include "utils/fmgroids.h"
}

struct CreditColumns {
    AttrNumber tenant, rep, pool, day, credit_ticket, credit_day, cost;
};

// A credit of a transaction in progress, unless it is a version of one that is there already.
struct NewCredit {
    ItemPointerData version;
    PendingCharge charge;
};

struct Credits {
    NewCredit* fresh;
    int32 fresh_count;
    ItemPointerData* next; // versions that follow on those counted
    int32 next_count;
    int32 room;
};

// The index by (tenant, credit_ticket); NULL: there is none in this physical copy.
static Relation credit_index(Relation record, const CreditColumns* columns) {
    Relation found = NULL;
    List* indexes = RelationGetIndexList(record);
    ListCell* cell;
    foreach (cell, indexes) {
        Relation index = index_open(lfirst_oid(cell), AccessShareLock);
        Form_pg_index form = index->rd_index;
        if (found == NULL && form->indnkeyatts == 2 && form->indisvalid &&
            form->indkey.values[0] == columns->tenant &&
            form->indkey.values[1] == columns->credit_ticket &&
            tests_null(RelationGetIndexPredicate(index), columns->credit_ticket, IS_NOT_NULL))
            found = index;
        else
            index_close(index, AccessShareLock);
    }
    list_free(indexes);
    if (found == NULL)
        ereport(ERROR,
                (errcode(ERRCODE_LR_CONFIGURATION),
                 errmsg("relation \"%s\" has no index on (tenant, credit_ticket)",
                        RelationGetRelationName(record)),
                 errdetail("Counters are rebuilt by it after a restart."),
                 errhint("CREATE INDEX ON it (tenant, credit_ticket) WHERE credit_ticket IS NOT "
                         "NULL;")));
    return found;
}

static void make_room(Credits* credits) {
    if (Max(credits->fresh_count, credits->next_count) < credits->room)
        return;
    int32 room = Max(64, credits->room * 2);
    NewCredit* fresh = static_cast<NewCredit*>(palloc(sizeof(NewCredit) * room));
    ItemPointerData* next = static_cast<ItemPointerData*>(palloc(sizeof(ItemPointerData) * room));
    if (credits->room > 0) {
        memcpy(fresh, credits->fresh, sizeof(NewCredit) * credits->fresh_count);
        memcpy(next, credits->next, sizeof(ItemPointerData) * credits->next_count);
    }
    credits->fresh = fresh;
    credits->next = next;
    credits->room = room;
}

static void take_back(Recount* r, int32 member, int64 ticket, int64 extra) {
    if (!r->full && !r->member_full[member] && !newer_than_checkpoint(r->checkpoint, ticket))
        return;
    r->block->member(member)->received--;
    r->block->member(member)->extra -= extra;
    if (ticket >= r->last_ticket[member])
        r->credited[member] += core::cost_of(1, extra);
}

static void count_credit(Recount* r, Credits* credits, const CreditColumns* c, TupleTableSlot* slot,
                         const SnapshotData* snapshot) {
    bool isnull;
    PendingCharge charge = {};
    charge.rep = DatumGetInt64(slot_getattr(slot, c->rep, &isnull));
    Datum pool = slot_getattr(slot, c->pool, &isnull);
    charge.pool = isnull ? 0 : DatumGetInt32(pool);
    charge.ticket = DatumGetInt64(slot_getattr(slot, c->credit_ticket, &isnull));
    // the next ticket is newer: a checkpoint must not seem older than a credit that it knows
    r->max_ticket = Max(r->max_ticket, charge.ticket);
    Datum day = slot_getattr(slot, c->day, &isnull);
    charge.day = isnull ? 0 : DatumGetDateADT(day);
    Datum returned = slot_getattr(slot, c->credit_day, &isnull);
    charge.effect =
        !isnull && DatumGetBool(returned) ? core::Effect::credit_day : core::Effect::credit;
    charge.turns = 1;
    charge.extra = row_extra(slot, c->cost);
    charge.xid = snapshot->xmin;
    charge.since = GetCurrentTimestamp();
    make_room(credits);
    // a transaction in progress may have changed the row again after it credited it
    bool fresh = TransactionIdIsValid(snapshot->xmin);
    if (fresh || TransactionIdIsValid(snapshot->xmax)) {
        bool must_free;
        HeapTuple tuple = ExecFetchSlotHeapTuple(slot, false, &must_free);
        if (!ItemPointerEquals(&tuple->t_data->t_ctid, &slot->tts_tid))
            credits->next[credits->next_count++] = tuple->t_data->t_ctid;
        if (must_free)
            heap_freetuple(tuple);
    }
    if (fresh) {
        credits->fresh[credits->fresh_count++] = {slot->tts_tid, charge};
        return;
    }
    int32 member = charge.pool == 0 ? -1 : block_find_member_of(r->block, charge.pool, charge.rep);
    if (member >= 0 && r->member_wanted[member])
        take_back(r, member, charge.ticket, charge.extra);
}

// Of a tenant that stays in memory whoever credits has noted it there.
static void note_fresh(Recount* r, const Credits* credits) {
    for (int32 i = 0; i < credits->fresh_count && r->keep_pending && !r->full; i++) {
        bool seen = false;
        for (int32 k = 0; k < credits->next_count && !seen; k++)
            seen = ItemPointerEquals(&credits->next[k], &credits->fresh[i].version);
        if (!seen)
            note_pending(r, &credits->fresh[i].charge);
    }
}

// Tickets up to this one are in the checkpoint, for every member.
static int64 oldest_needed(const Recount* r) {
    if (r->full || !r->checkpoint->found)
        return PG_INT64_MIN;
    for (int32 i = 0; i < r->block->member_count; i++)
        if (r->member_full[i])
            return PG_INT64_MIN;
    int64 ticket = r->checkpoint->ticket;
    return r->checkpoint->in_flight_count > 0 ? Min(ticket, r->checkpoint->in_flight[0]) : ticket;
}

void recount_credits(Recount* r, Relation record, int64 tenant) {
    CreditColumns columns = {
        record_column(record, "tenant"),        record_column(record, "rep"),
        record_column(record, "pool"),          record_column(record, "day"),
        record_column(record, "credit_ticket"), record_column(record, "credit_day"),
        record_column(record, "cost")};
    Relation index = credit_index(record, &columns);
    ScanKeyData keys[2];
    ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(tenant));
    ScanKeyInit(&keys[1], 2, BTGreaterEqualStrategyNumber, F_INT8GE,
                Int64GetDatum(oldest_needed(r)));
    SnapshotData snapshot;
    InitDirtySnapshot(snapshot);
    IndexScanDesc scan = begin_index_scan(record, index, &snapshot, 2);
    index_rescan(scan, keys, 2, NULL, 0);
    TupleTableSlot* slot = table_slot_create(record, NULL);
    Credits credits = {};
    while (index_getnext_slot(scan, ForwardScanDirection, slot)) {
        CHECK_FOR_INTERRUPTS();
        count_credit(r, &credits, &columns, slot, &snapshot);
    }
    note_fresh(r, &credits);
    ExecDropSingleTupleTableSlot(slot);
    index_endscan(scan);
    index_close(index, AccessShareLock);
}
