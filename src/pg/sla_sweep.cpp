// sweep()'s part in policies: what is due is found by one index and seen to in batches, each of
// them one transaction. Sweeps at the same time pass over each other's leads.
//
// The leads of a batch are done together; if one of them fails they are undone, and done again each
// by itself, so that the one that fails is set aside and the others are not.
#include "sla_sweep.h"
#include "attempt.h"
#include "sla_step.h"

// Leads in one transaction: it keeps their events in memory (kMostGathered).
constexpr int kBatch = 200;

// One sweep.
struct SlaSweep {
    SlaKnown known;
    SlaSearch search;
    int64 done;       // leads that something was done for
    bool keys_repeat; // a lead has the key of one that is gone, as it seems
};

struct Work {
    SlaBatch* batch;
    SlaEpisode* found;
    int count;
    int first, next; // those to be done now
    SlaOutcome* outcomes;
    bool away; // who follows is for those who are there by then
};

// --- leads ---

// The managers of their reps are looked up together.
static void want_managers(const Work* work) {
    int64* reps = static_cast<int64*>(palloc(sizeof(int64) * (work->count + 1)));
    for (int i = work->first, same; i < work->next; i += same) {
        const SlaEpisode* found = &work->found[i];
        for (same = 0; i + same < work->next && found[same].tenant == found->tenant; same++)
            reps[same] = found[same].rep;
        if (same > 1)
            sla_managers_want(sla_tenant(work->batch->known, found->tenant), reps, same);
    }
}

static void do_leads(void* argument) {
    Work* work = static_cast<Work*>(argument);
    sla_begin(work->batch);
    want_managers(work);
    for (int i = work->first; i < work->next && !work->away; i++) {
        CHECK_FOR_INTERRUPTS();
        work->outcomes[i] = sla_step(work->batch, &work->found[i]);
        if (work->outcomes[i] == SlaOutcome::set_away) {
            work->away = true;
            work->count = i + 1;
        }
    }
    sla_flush(work->batch);
}

// In a subtransaction. NULL: all is done; else all is undone.
static ErrorData* attempt_leads(Work* work) {
    SlaBatch* batch = work->batch;
    int alerts = batch->told.alert_count;
    ErrorData* error = attempt_undoable(do_leads, work);
    if (error == NULL)
        return NULL;
    if (error->sqlerrcode == ERRCODE_QUERY_CANCELED)
        ReThrowError(error);
    record_buffer_free(batch->buffer);
    batch->buffer = NULL;
    batch->tables = NULL;
    batch->reader = {};
    batch->told.act_count = 0;
    batch->told.alert_count = alerts;
    work->away = false;
    MemoryContextReset(batch->lead_context);
    return error;
}

// What passes by itself is tried again by the next sweep.
static bool will_pass(const ErrorData* error) {
    int category = ERRCODE_TO_CATEGORY(error->sqlerrcode);
    return error_must_pass(error) || category == ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE;
}

static void set_aside(const SlaEpisode* e, const ErrorData* error) {
    Oid types[] = {INT4OID, TEXTOID, INT8OID, TEXTOID};
    Datum values[] = {Int32GetDatum(e->lead_table), CStringGetTextDatum(e->lead_id),
                      Int64GetDatum(e->tenant), CStringGetTextDatum(error->message)};
    if (SPI_execute_with_args("SELECT leadroute._sla_failed($1, $2, $3, $4)", 4, types, values,
                              NULL, false, 1) != SPI_OK_SELECT)
        elog(ERROR, "cannot set a lead aside");
    SPI_freetuptable(SPI_tuptable);
}

static void one_by_one(Work* work) {
    work->batch->buffers = work->batch->keys_are_new = false;
    for (int i = 0; i < work->count; i++) {
        work->first = i;
        work->next = i + 1;
        ErrorData* error = attempt_leads(work);
        if (error == NULL)
            continue;
        work->outcomes[i] = SlaOutcome::skipped;
        if (!will_pass(error))
            set_aside(&work->found[i], error);
        FreeErrorData(error);
    }
}

// --- a batch ---

// Those that nothing could be done for are left to the next sweep.
static void pass_over(SlaSweep* sweep, const SlaEpisode* episode) {
    uint64 key = sla_lead_key(episode);
    (void)hash_search(sweep->search.passed, &key, HASH_ENTER, NULL);
}

static int do_found(SlaSweep* sweep, SlaBatch* batch, SlaEpisode* found, int count) {
    Work work = {batch, found, count, 0, count, NULL, false};
    work.outcomes = static_cast<SlaOutcome*>(palloc0(sizeof(SlaOutcome) * (count + 1)));
    ErrorData* error = attempt_leads(&work);
    if (error != NULL) {
        sweep->keys_repeat = sweep->keys_repeat || error->sqlerrcode == ERRCODE_UNIQUE_VIOLATION;
        FreeErrorData(error);
        one_by_one(&work);
    }
    sla_alerts_write(&batch->told);
    for (int i = 0; i < work.count; i++) {
        if (work.outcomes[i] == SlaOutcome::skipped)
            pass_over(sweep, &found[i]);
        else
            sweep->done++;
    }
    return work.count;
}

// True: there may be more.
static bool do_batch(SlaSweep* sweep, int most) {
    OwnerScope owner;
    owner_scope_begin(&owner);
    PushActiveSnapshot(GetTransactionSnapshot());
    // triggers of lead tables run here, with their owners' rights, and not at the end with ours
    if (SPI_execute("SET CONSTRAINTS ALL IMMEDIATE", false, 0) != SPI_OK_UTILITY)
        elog(ERROR, "cannot set constraints");
    SlaBatch batch = {};
    batch.known = &sweep->known;
    batch.context =
        AllocSetContextCreate(CurrentMemoryContext, "leadroute batch", ALLOCSET_DEFAULT_SIZES);
    batch.lead_context =
        AllocSetContextCreate(batch.context, "leadroute lead", ALLOCSET_DEFAULT_SIZES);
    batch.told.context = batch.context;
    batch.buffers = true;
    batch.keys_are_new = !sweep->keys_repeat;
    MemoryContext caller = MemoryContextSwitchTo(batch.context);
    sla_record_open(&batch.record);
    SlaEpisode* found = static_cast<SlaEpisode*>(palloc(sizeof(SlaEpisode) * (most + 1)));
    int count = sla_find(&batch.record, &sweep->search, most, found);
    if (count > 0) {
        int last = do_found(sweep, &batch, found, count) - 1;
        sweep->search.from = found[last].found_at;
    }
    record_buffer_free(batch.buffer);
    MemoryContextSwitchTo(caller);
    MemoryContextDelete(batch.context);
    PopActiveSnapshot();
    owner_scope_end(&owner);
    return count > 0;
}

// --- a sweep ---

// The tenants that the role may sweep; NULL: all.
static void read_tenants(NameData* caller, SlaSearch* search) {
    Oid types[] = {NAMEOID};
    Datum values[] = {NameGetDatum(caller)};
    OwnerScope owner;
    owner_scope_begin(&owner);
    if (SPI_execute_with_args("SELECT leadroute._sweep_tenants($1)", 1, types, values, NULL, false,
                              1) != SPI_OK_SELECT ||
        SPI_processed != 1)
        elog(ERROR, "cannot tell whose leads to sweep");
    owner_scope_end(&owner);
    bool isnull;
    Datum value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
    if (isnull)
        return;
    Datum* tenants;
    bool* nulls;
    deconstruct_array(DatumGetArrayTypeP(value), INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
                      TYPALIGN_DOUBLE, &tenants, &nulls, &search->tenant_count);
    int64* kept = static_cast<int64*>(palloc(sizeof(int64) * (search->tenant_count + 1)));
    for (int i = 0; i < search->tenant_count; i++)
        kept[i] = DatumGetInt64(tenants[i]);
    search->tenants = kept;
}

int64 sla_sweep(NameData* caller, int64 most, TimestampTz until) {
    SlaSweep sweep = {};
    read_tenants(caller, &sweep.search);
    sla_known_begin(&sweep.known);
    HASHCTL control = {};
    control.keysize = control.entrysize = sizeof(uint64);
    control.hcxt = sweep.known.context;
    sweep.search.passed =
        hash_create("leadroute passed over", 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
    sweep.search.from = DT_NOBEGIN;
    sweep.search.until = GetCurrentTimestamp(); // what comes due later is left to the next one
    bool more = true;
    while (more && sweep.done < most && GetCurrentTimestamp() < until) {
        more = do_batch(&sweep, (int)Min(kBatch, most - sweep.done));
        SPI_commit();
        CHECK_FOR_INTERRUPTS();
    }
    MemoryContextDelete(sweep.known.context);
    return sweep.done;
}
