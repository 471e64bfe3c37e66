// claim_next(): the next lead of the rep's queues; see claim.h and claim_search.h.
#include "attempt.h"
#include "claim.h"
#include "claim_allowance.h"
#include "claim_search.h"
#include "placement.h"
#include "skills.h"

struct NextQueue {
    ClaimQueue queue;
    ClaimPlace head;
    bool any_order;
};

// A search for one rep.
struct NextClaim {
    const ClaimTerms* terms;
    const ClaimQueue* queue;
    ClaimResult result;
    bool refused;     // the queue at hand
    int failed;       // leads that could not be updated
    ErrorData* error; // of the first of them
};

// So many are set aside by one search, if it finds another one; otherwise what is wrong is raised.
constexpr int kMaxSetAside = 3;

// Needs and owner column, before the lead is locked.
static ClaimOutcome fits(const ClaimRequest* request, const Episode* episode, ClaimResult* result) {
    PickRequest ask = {};
    ask.ref = ref_need(request->table->owner_kind);
    if (episode->needs == 0 && ask.ref == RefNeed::none)
        return ClaimOutcome::taken;
    Needs needs = {};
    if (episode->needs != 0)
        needs_read(DatumGetArrayTypeP(episode->needs), &needs);
    ask.key = &request->terms->key;
    ask.pool = request->pool;
    ask.rep = request->terms->rep;
    ask.now = GetCurrentTimestamp();
    ask.needs = needs.count > 0 ? &needs : NULL;
    ClaimBar bar = claim_bar(&ask);
    if (bar == ClaimBar::unskilled || bar == ClaimBar::no_ref)
        return claim_say(result, ClaimOutcome::unfit, "unskilled", request->pool);
    return ClaimOutcome::taken;
}

static ClaimOutcome take_row(NextClaim* next, ItemPointer row, const Episode* episode,
                             ClaimTable* table) {
    ClaimRequest request = {};
    request.terms = next->terms;
    request.table = table;
    request.next = true;
    request.pool = next->queue->pool;
    request.tank = next->queue->tank;
    request.row = row;
    request.episode = episode;
    ClaimOutcome outcome = claim_judge(&request, episode, &next->result);
    if (outcome == ClaimOutcome::taken)
        outcome = fits(&request, episode, &next->result);
    if (outcome != ClaimOutcome::taken)
        return outcome;
    if (!claim_key(table, next->terms->key.tenant, episode->lead_id, &request.key))
        return ClaimOutcome::gone;
    return claim_take(&request, &next->result);
}

struct Taking {
    NextClaim* next;
    ItemPointer row;
    const Episode* episode;
    ClaimOutcome outcome;
};

static void take_body(void* argument) {
    Taking* taking = static_cast<Taking*>(argument);
    taking->outcome = take_row(taking->next, taking->row, taking->episode,
                               claim_table(taking->episode->lead_table));
}

static void set_aside(const ClaimQueue* queue, ItemPointer row, const char* message) {
    Episode episode;
    if (!episode_fetch(queue->key.assignment, row, &episode))
        return;
    Oid types[] = {INT4OID, TEXTOID, INT8OID, INT8OID, INT4OID, TEXTOID};
    Datum values[] = {Int32GetDatum(episode.lead_table), CStringGetTextDatum(episode.lead_id),
                      Int64GetDatum(episode.tenant),     Int64GetDatum(episode.rule),
                      Int32GetDatum(queue->pool),        CStringGetTextDatum(message)};
    OwnerScope owner;
    owner_scope_begin(&owner);
    SPI_connect();
    if (SPI_execute_with_args("SELECT leadroute._backlog_failed($1, $2, $3, nullif($4, 0), $5, $6)",
                              lengthof(types), types, values, NULL, false, 1) != SPI_OK_SELECT)
        elog(ERROR, "cannot set a lead aside");
    SPI_finish();
    owner_scope_end(&owner);
}

// A lead whose update fails does not keep the others of its queue: it is left there with an alert.
static ClaimOutcome take_apart(NextClaim* next, ItemPointer row, const Episode* episode) {
    Taking taking = {next, row, episode, ClaimOutcome::gone};
    ErrorData* error = attempt_apart(take_body, &taking);
    if (error == NULL)
        return taking.outcome;
    if (next->error == NULL)
        next->error = error;
    if (++next->failed > kMaxSetAside)
        ReThrowError(next->error);
    set_aside(next->queue, row, error->message);
    return ClaimOutcome::gone;
}

// A subtransaction costs an id of its own, and is had only where it may be needed.
static ClaimOutcome take_offered(NextClaim* next, ItemPointer row) {
    Episode episode;
    if (!episode_fetch(next->queue->key.assignment, row, &episode))
        return ClaimOutcome::gone;
    ClaimTable* sure = leads_open_sure(episode.lead_table);
    if (sure == NULL)
        return take_apart(next, row, &episode);
    ClaimOutcome outcome = take_row(next, row, &episode, sure);
    leads_close(sure);
    return outcome;
}

static ClaimTry take(void* context, ItemPointer row) {
    NextClaim* next = static_cast<NextClaim*>(context);
    switch (take_offered(next, row)) {
    case ClaimOutcome::taken:
        return ClaimTry::taken;
    case ClaimOutcome::unfit:
        return ClaimTry::unfit;
    case ClaimOutcome::refused:
        next->refused = true;
        return ClaimTry::stop;
    default:
        return ClaimTry::gone;
    }
}

// --- which queues ---

static void refuse_pool(const ClaimTerms* terms, const char* pool) {
    OwnerScope owner;
    owner_scope_begin(&owner);
    SPI_connect();
    Oid types[] = {INT8OID, TEXTOID, INT8OID};
    Datum values[] = {Int64GetDatum(terms->key.tenant), CStringGetTextDatum(pool),
                      Int64GetDatum(terms->rep)};
    (void)SPI_execute_with_args("SELECT leadroute._refuse_pool($1, $2, $3)", 3, types, values, NULL,
                                false, 1);
    elog(ERROR, "leadroute._refuse_pool() refused nothing");
}

static int by_head(const void* a, const void* b) {
    return compare_places(&static_cast<const NextQueue*>(a)->head,
                          &static_cast<const NextQueue*>(b)->head);
}

// The queues to search, the one with the best place first.
static int list_queues(const ClaimTerms* terms, const char* pool, bool tank, NextQueue* queues) {
    int count = 0;
    bool member = false;
    for (int i = 0; i < terms->count; i++) {
        const PoolTerms* of = &terms->pool[i];
        bool named = pool != NULL && strcmp(of->name, pool) == 0;
        member = member || named;
        if (pool == NULL ? !of->foreign && (tank || of->pulls) : named)
            queues[count++] = {{terms->key, of->pool, tank}, {}, tank && of->random};
    }
    if (pool != NULL && !member)
        refuse_pool(terms, pool);
    if (count < 2)
        return count;
    int kept = 0;
    for (int i = 0; i < count; i++)
        if (claim_head(&queues[i].queue, &queues[i].head))
            queues[kept++] = queues[i];
    qsort(queues, kept, sizeof(NextQueue), by_head);
    return kept;
}

static void claim_next(FunctionCallInfo fcinfo, ReturnSetInfo* rows) {
    int64 tenant = PG_GETARG_INT64(3);
    TenantKey key = {MyDatabaseId, placement(InvalidOid, tenant), tenant};
    int64 rep = PG_GETARG_INT64(0);
    const char* pool = PG_ARGISNULL(1) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(1));
    bool tank = !PG_ARGISNULL(2) && PG_GETARG_BOOL(2);
    const char* level = pstrdup(claim_level(&key, rep));
    NextClaim next = {};
    ClaimTerms* terms = claim_terms(&key, rep);
    claim_foreign(terms, level);
    next.terms = terms;
    next.result.shown = rows->setResult;
    if (!next.terms->known) {
        (void)claim_say(&next.result, ClaimOutcome::refused, "no_rep", 0);
        claim_refuse(next.terms, level, NULL, NULL, &next.result.refusal);
    }
    NextQueue* queues =
        static_cast<NextQueue*>(palloc(sizeof(NextQueue) * (next.terms->count + 1)));
    int count = list_queues(next.terms, pool, tank, queues);
    if (next.terms->limited)
        allowance_lock(next.terms);
    ClaimRefusal first = {};
    bool refused = false;
    for (int i = 0; i < count; i++) {
        next.queue = &queues[i].queue;
        next.refused = false;
        if (claim_search(next.queue, rep, GetCurrentTimestamp(), queues[i].any_order, take, &next))
            return;
        if (next.refused && !refused)
            first = next.result.refusal;
        refused = refused || next.refused;
        if (next.refused && next.result.refusal.of_rep)
            break;
    }
    if (next.error != NULL)
        ReThrowError(next.error);
    if (refused)
        claim_refuse(next.terms, level, NULL, NULL, &first);
}

extern "C" {
PG_FUNCTION_INFO_V1(leadroute_claim_next);

// claim_next(rep bigint, pool text, from_shark_tank boolean, tenant bigint) -> SETOF assignment
Datum leadroute_claim_next(PG_FUNCTION_ARGS) {
    shared_require();
    claim_refuse_null(fcinfo, 0, 3);
    ReturnSetInfo* rows = claim_rows(fcinfo);
    // what this statement has claimed before counts
    CommandCounterIncrement();
    claim_next(fcinfo, rows);
    return (Datum)0;
}
}
