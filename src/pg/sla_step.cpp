// See sla_step.h. The lead's row is locked first, so that its record stands still: whoever comes
// second finds the clock stopped, or moved on.
#include "sla_step.h"
#include "claim_cursor.h"
#include "events.h"
#include "sla_far.h"

extern "C" {
#include "storage/lmgr.h"
}

// --- lead tables ---

// Its relation is asked for (unless it is known), its manager and its fallback pool are read.
// InvalidOid: it is gone.
static Oid read_table(SlaTable* table, Oid known) {
    static SPIPlanPtr plan;
    if (plan == NULL) {
        Oid types[] = {INT4OID, BOOLOID};
        SPIPlanPtr made =
            SPI_prepare("SELECT CASE WHEN $2 THEN leadroute._lead_relation(t.id) END, t.manager,"
                        " t.fallback_pool FROM leadroute.lead_table t WHERE t.id = $1",
                        2, types);
        if (made == NULL || SPI_keepplan(made) != 0)
            elog(ERROR, "cannot prepare to read leadroute.lead_table");
        plan = made;
    }
    Datum values[] = {Int32GetDatum(table->id), BoolGetDatum(!OidIsValid(known))};
    if (SPI_execute_plan(plan, values, NULL, false, 1) != SPI_OK_SELECT)
        elog(ERROR, "cannot read leadroute.lead_table");
    if (SPI_processed == 0)
        return InvalidOid;
    SPITupleTable* rows = SPI_tuptable;
    bool none, isnull;
    Datum relation = SPI_getbinval(rows->vals[0], rows->tupdesc, 1, &none);
    Datum manager = SPI_getbinval(rows->vals[0], rows->tupdesc, 2, &isnull);
    table->manager = isnull ? 0 : DatumGetInt64(manager);
    table->fallback_pool = SPI_getvalue(rows->vals[0], rows->tupdesc, 3);
    SPI_freetuptable(rows);
    return none ? known : DatumGetObjectId(relation);
}

// Whoever changes or drops the table may be about to lock the record: no waiting for him.
static void open_table(SlaTable* table) {
    Oid relation = read_table(table, claim_relation(table->id));
    if (!OidIsValid(relation) || !ConditionalLockRelationOid(relation, RowExclusiveLock))
        return;
    table->relation = try_relation_open(relation, NoLock);
    if (table->relation == NULL)
        return;
    table->leads = claim_table(table->id);
    leads_open(table->leads);
}

static SlaTable* table_of(SlaBatch* batch, int32 id) {
    for (SlaTable* table = batch->tables; table != NULL; table = table->next)
        if (table->id == id)
            return table;
    MemoryContext caller = MemoryContextSwitchTo(batch->context);
    SlaTable* table = static_cast<SlaTable*>(palloc0(sizeof(SlaTable)));
    table->id = id;
    open_table(table);
    table->next = batch->tables;
    batch->tables = table;
    MemoryContextSwitchTo(caller);
    return table;
}

void sla_begin(SlaBatch* batch) {
    sla_reader_open(&batch->record, &batch->reader);
}

void sla_flush(SlaBatch* batch) {
    sla_reader_close(&batch->reader);
    record_flush(batch->buffer);
    sla_acts_write(&batch->told);
    for (SlaTable* table = batch->tables; table != NULL; table = table->next) {
        if (table->leads != NULL)
            leads_close(table->leads);
        if (table->relation != NULL)
            relation_close(table->relation, NoLock);
    }
    batch->tables = NULL;
}

// --- what is due ---

struct DueStep {
    TimestampTz at;
    const SlaStep* step;
};

static TimestampTz step_at(const SlaLead* lead, const SlaStep* step) {
    const SlaEpisode* e = lead->episode;
    if (step->id == 0)
        return e->due_at;
    if (lead->terms->business_time)
        return sla_far_at(e->tenant, lead->terms->id, e->rep, e->decided_at, step->after);
    return e->decided_at + step->after;
}

static bool comes_before(const DueStep* a, const DueStep* b) {
    if (a->at != b->at)
        return a->at < b->at;
    if (a->step->after != b->step->after)
        return a->step->after < b->step->after;
    return a->step->id < b->step->id;
}

// The steps that are left, in order: the breach when the first touch was due by the policy as it
// was at the assignment, the others by the policy as it is now.
static int steps_left(const SlaLead* lead, DueStep** steps) {
    int count = 0;
    int room = lead->terms == NULL ? 0 : lead->terms->step_count;
    *steps = static_cast<DueStep*>(palloc(sizeof(DueStep) * (room + 1)));
    for (int i = 0; i < room; i++) {
        const SlaStep* step = &lead->terms->steps[i];
        bool done = step->id == 0 ? lead->episode->breached : step->after <= lead->episode->stepped;
        if (done)
            continue;
        DueStep due = {step_at(lead, step), step};
        int place = count++;
        for (; place > 0 && comes_before(&due, &(*steps)[place - 1]); place--)
            (*steps)[place] = (*steps)[place - 1];
        (*steps)[place] = due;
    }
    return count;
}

// --- doing it ---

// What comes of the steps of one lead.
struct Doing {
    const SlaStep* last; // the furthest one done
    bool breached;
    TimestampTz breached_at;
    bool tells; // of the breach; else coming into the shark tank does
    int told;   // its place among the acts
    bool away;
    bool moves;
    SlaMove move;
    const char* place; // where the lead is after a breach; NULL: where it was
};

// The rep's manager, else the pool's, else the lead table's; above: that manager's own, where there
// is one.
static int64 manager_of(const SlaLead* lead, bool above) {
    const SlaEpisode* e = lead->episode;
    int64 near = sla_manager_of_rep(lead->tenant, e->rep);
    if (near == 0)
        near = sla_manager_of_pool(lead->tenant, e->pool);
    if (near == 0)
        near = lead->table->manager;
    int64 next = above && near != 0 ? sla_manager_of_rep(lead->tenant, near) : 0;
    return next != 0 ? next : near;
}

static const char* time_text(TimestampTz at) {
    return DatumGetCString(DirectFunctionCall1(timestamptz_out, TimestampTzGetDatum(at)));
}

static void tell_manager(SlaLead* lead, const char* kind, bool above, const char* message) {
    SlaAlert alert = {kind,
                      lead->found,
                      lead->terms,
                      lead->table->leads->name,
                      manager_of(lead, above),
                      MemoryContextStrdup(lead->batch->context, message),
                      0};
    alert.table_name = MemoryContextStrdup(lead->batch->context, alert.table_name);
    sla_alert(&lead->batch->told, &alert);
}

// Puts the lead into the shark tank of the pool it came from, else of the fallback pool: it stays
// the rep's until somebody else takes it. False where there is nothing to put.
static bool to_shark_tank(SlaLead* lead) {
    SlaEpisode* e = lead->episode;
    const SlaRecord* record = &lead->batch->record;
    int32 pool = e->pool;
    if (pool == 0 && lead->table->fallback_pool != NULL)
        pool = sla_pool_named(lead->tenant, lead->table->fallback_pool);
    if (pool == 0 || e->rep == 0 || !e->nulls[record->column[S_TANK_POOL] - 1])
        return false;
    TimestampTz now = GetCurrentTimestamp();
    sla_set(record, e, S_TANK_AT, TimestampTzGetDatum(now));
    sla_set(record, e, S_TANK_POOL, Int32GetDatum(pool));
    ToldEvent event = {"breached", e->tenant, now,           e->due_at, e->rep,    e->rule,
                       0,          0,         e->lead_table, e->pool,   e->lead_id};
    event_told(&event);
    return true;
}

// Whoever claims has to find the row's new version.
static void tell_claims(const SlaLead* lead) {
    const SlaRecord* record = &lead->batch->record;
    const SlaEpisode* e = lead->episode;
    int place = record->column[S_TANK_POOL] - 1;
    if (e->nulls[place])
        return;
    ClaimQueue queue = {
        {MyDatabaseId, record->assignment, e->tenant}, DatumGetInt32(e->values[place]), true};
    ClaimPlace front = {PG_INT32_MIN, -get_float8_infinity(), DT_NOBEGIN, ""};
    claim_cursor_arrived(&queue, &front);
}

// Whether the lead leaves its rep now; else it stays, for there is nowhere to go.
static bool takes_away(SlaLead* lead, const SlaStep* step, Doing* doing) {
    const SlaEpisode* e = lead->episode;
    const SlaTerms* terms = lead->terms;
    if (e->manual && !terms->moves_manual) {
        doing->place = "stays, since a person gave it";
        return false;
    }
    SlaMove move = {step->pool, step->pool != 0, step->action == SlaAction::recycle};
    if (!move.recycled && e->hops >= terms->max_hops) {
        tell_manager(lead, "reroute_limit", false, psprintf("%d reps have missed it", e->hops + 1));
        move = {0, false, true};
    }
    if (move.recycled) {
        move.bound = true;
        if (move.pool == 0)
            move.pool = terms->recycle_pool;
        doing->place = "stays, for there is no other recycle bin";
    } else if (terms->to_pool) {
        if (move.pool == 0)
            move.pool = e->pool;
        move.bound = move.bound || (e->pool_bound && move.pool == e->pool && move.pool != 0);
    }
    doing->move = move;
    return !move.recycled || (move.pool != 0 && move.pool != e->pool);
}

// True: the lead leaves its rep, and what follows is for the next one.
static bool do_step(SlaLead* lead, const SlaStep* step, Doing* doing) {
    SlaTold* told = &lead->batch->told;
    if (doing->last == NULL || step->after > doing->last->after)
        doing->last = step;
    if (step->id == 0) {
        doing->breached = true;
        doing->breached_at = lead->now;
        if (step->action != SlaAction::shark_tank || !to_shark_tank(lead)) {
            doing->tells = true;
            doing->told = sla_act(told, "breached", lead->found);
            doing->breached_at = told->acts[doing->told].at;
        }
    }
    switch (step->action) {
    case SlaAction::remind:
        sla_act(told, "reminder", lead->found);
        return false;
    case SlaAction::escalate:
    case SlaAction::notify_manager:
        if (step->action == SlaAction::escalate || step->id != 0)
            tell_manager(lead, "escalated", step->action == SlaAction::escalate,
                         psprintf("rep %lld has not touched it since %s",
                                  (long long)lead->episode->rep,
                                  time_text(lead->episode->decided_at)));
        return false;
    case SlaAction::shark_tank:
        if (step->id != 0)
            (void)to_shark_tank(lead);
        return false;
    case SlaAction::set_away:
        doing->away = sla_set_away(lead->episode, lead->terms) || doing->away;
        return false;
    case SlaAction::reroute:
    case SlaAction::recycle:
        return takes_away(lead, step, doing);
    default:
        return false;
    }
}

static TimestampTz do_steps(SlaLead* lead, Doing* doing) {
    DueStep* steps;
    int count = steps_left(lead, &steps);
    for (int i = 0; i < count; i++) {
        if (steps[i].at > lead->now)
            return steps[i].at;
        doing->moves = do_step(lead, steps[i].step, doing);
        if (doing->moves)
            return DT_NOEND;
    }
    return DT_NOEND;
}

// The mark that the steps are done, in the row to be written.
static void mark(SlaLead* lead, const Doing* doing, TimestampTz next_at) {
    SlaEpisode* e = lead->episode;
    const SlaRecord* record = &lead->batch->record;
    if (doing->last != NULL && doing->last->after > e->stepped)
        sla_set(record, e, S_STEPPED, IntervalPGetDatum(doing->last->interval));
    if (next_at == DT_NOEND)
        sla_unset(record, e, S_NEXT_STEP_AT);
    else
        sla_set(record, e, S_NEXT_STEP_AT, TimestampTzGetDatum(next_at));
    if (doing->breached && !e->breached)
        sla_set(record, e, S_BREACHED_AT, TimestampTzGetDatum(doing->breached_at));
}

// An episode that ends with its breach says so by the time, and leadroute._events() reads it there;
// not if it was in the shark tank, which tells of another one.
static TimestampTz ends_at(const SlaLead* lead, const Doing* doing) {
    int tank = lead->batch->record.column[S_TANK_AT] - 1;
    if (!doing->tells || !lead->episode->nulls[tank])
        return GetCurrentTimestamp();
    lead->batch->told.acts[doing->told].by_episode = true;
    return doing->breached_at;
}

static void tell_breach(SlaLead* lead, const Doing* doing) {
    const SlaEpisode* e = lead->episode;
    tell_manager(lead, "sla_breach", false,
                 psprintf("rep %lld did not touch it by %s%s%s", (long long)e->rep,
                          time_text(e->due_at), doing->place == NULL ? "" : "; it ",
                          doing->place == NULL ? "" : doing->place));
}

static SlaOutcome do_due(SlaLead* lead) {
    Doing doing = {};
    TimestampTz next_at = do_steps(lead, &doing);
    mark(lead, &doing, next_at);
    bool counts = doing.breached && lead->terms->away_after != 0;
    if (!doing.moves || counts)
        sla_write(&lead->batch->record, lead->episode, false);
    if (!doing.moves)
        tell_claims(lead);
    if (counts) {
        CommandCounterIncrement();
        if (sla_missed(lead->episode, lead->terms->away_after))
            doing.away = sla_set_away(lead->episode, lead->terms) || doing.away;
    }
    if (doing.moves) {
        TimestampTz at = ends_at(lead, &doing);
        if (doing.move.recycled)
            sla_act(&lead->batch->told, "recycled", lead->found);
        doing.place = sla_move(lead, &doing.move, at);
    }
    if (doing.breached)
        tell_breach(lead, &doing);
    return doing.away ? SlaOutcome::set_away : SlaOutcome::stepped;
}

static bool lock_lead(SlaLead* lead) {
    const SlaEpisode* e = lead->found;
    lead->table = table_of(lead->batch, e->lead_table);
    return lead->table->leads != NULL &&
           claim_key(lead->table->leads, e->tenant, e->lead_id, &lead->key) &&
           lead_lock(lead->table->leads, &lead->key, true, &lead->was) == LeadLock::locked;
}

// Is there still something to do for it?
static bool still_due(SlaBatch* batch, SlaEpisode* episode, TimestampTz now) {
    MemoryContext caller = MemoryContextSwitchTo(batch->context);
    bool open = sla_episode_now(&batch->record, &batch->reader, episode);
    MemoryContextSwitchTo(caller);
    return open && episode->waits_for_step && episode->next_step_at <= now;
}

static SlaOutcome step_in_context(SlaBatch* batch, SlaEpisode* found) {
    SlaLead lead = {};
    lead.batch = batch;
    lead.found = found;
    lead.now = GetCurrentTimestamp();
    if (!lock_lead(&lead) || !still_due(batch, found, lead.now))
        return SlaOutcome::skipped;
    SlaEpisode episode;
    sla_copy(&batch->record, found, &episode);
    lead.episode = &episode;
    lead.tenant = sla_tenant(batch->known, found->tenant);
    lead.terms = sla_terms(lead.tenant, found->sla);
    return do_due(&lead);
}

SlaOutcome sla_step(SlaBatch* batch, SlaEpisode* found) {
    MemoryContext caller = MemoryContextSwitchTo(batch->lead_context);
    PushActiveSnapshot(GetLatestSnapshot());
    SlaOutcome outcome = step_in_context(batch, found);
    PopActiveSnapshot();
    MemoryContextSwitchTo(caller);
    MemoryContextReset(batch->lead_context);
    return outcome;
}
