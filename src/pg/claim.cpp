// claim(): see claim.h.
#include "claim.h"
#include "claim_allowance.h"
#include "lead.h"
#include "placement.h"
#include "record.h"
#include "skills.h"
#include "sla.h"
#include "tenant.h"
#include "transaction.h"

extern "C" {
#include "utils/fmgrprotos.h"
}

ClaimOutcome claim_say(ClaimResult* result, ClaimOutcome outcome, const char* why, int32 pool) {
    result->refusal = {why, outcome == ClaimOutcome::refused, false, pool, 0, 0, DT_NOBEGIN};
    return outcome;
}

static TimestampTz after(TimestampTz since, const Interval* wait) {
    return DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
                                                   TimestampTzGetDatum(since),
                                                   PointerGetDatum(const_cast<Interval*>(wait))));
}

static bool in_tank(const Episode* episode) {
    return episode->rep != 0 && episode->tank_pool != 0 && !episode->touched;
}

// Is there anything of it to claim, and from which pool? taken: there is.
static ClaimOutcome find_pool(const ClaimRequest* request, const Episode* episode,
                              ClaimResult* result, int32* pool) {
    bool tank = in_tank(episode);
    *pool = tank ? episode->tank_pool : episode->pool;
    if (!tank && !episode_waits(episode))
        return claim_say(result, ClaimOutcome::gone, "owned", 0);
    if (request->next && (*pool != request->pool || tank != request->tank))
        return claim_say(result, ClaimOutcome::gone, "moved", *pool);
    if (tank && episode->rep == request->terms->rep)
        return claim_say(result, ClaimOutcome::unfit, "own", *pool);
    if (*pool == 0)
        return claim_say(result, ClaimOutcome::unfit, "unmatched", 0);
    return ClaimOutcome::taken;
}

// May the rep have it, as far as the terms say?
static ClaimOutcome ask_terms(const ClaimRequest* request, const Episode* episode, int32 pool,
                              ClaimResult* result) {
    const PoolTerms* terms = terms_of_pool(request->terms, pool);
    if (terms == NULL)
        return claim_say(result, ClaimOutcome::refused, "no_member", pool);
    if (terms->foreign)
        return claim_say(result, ClaimOutcome::refused, "foreign", pool);
    if (episode->rep == 0 && !terms->pulls && !episode->given)
        return claim_say(result, ClaimOutcome::unfit, "push", pool);
    if (terms->blind && !request->next)
        return claim_say(result, ClaimOutcome::refused, "blind", pool);
    if (array_has(episode->avoid, request->terms->rep))
        return claim_say(result, ClaimOutcome::unfit, "avoided", pool);
    if (episode->rep == 0 && terms->has_exclusive && !terms->first_tier) {
        TimestampTz until = after(episode->decided_at, &terms->exclusive);
        if (until > GetCurrentTimestamp()) {
            (void)claim_say(result, ClaimOutcome::unfit, "exclusive", pool);
            result->refusal.until = until;
            return ClaimOutcome::unfit;
        }
    }
    return ClaimOutcome::taken;
}

// Did the rep lose the lead to somebody else, rather than give it up?
static bool has_lost(const Episode* episode, int64 rep) {
    OwnerScope owner;
    owner_scope_begin(&owner);
    SPI_connect();
    PushActiveSnapshot(GetLatestSnapshot());
    Oid types[] = {INT8OID, INT4OID, TEXTOID, INT8OID};
    Datum values[] = {Int64GetDatum(episode->tenant), Int32GetDatum(episode->lead_table),
                      CStringGetTextDatum(episode->lead_id), Int64GetDatum(rep)};
    if (SPI_execute_with_args("SELECT FROM leadroute.assignment WHERE tenant = $1"
                              " AND lead_table = $2 AND lead_id = $3 AND rep = $4"
                              " AND ended_at IS NOT NULL AND end_reason = 'claimed'",
                              4, types, values, NULL, true, 1) != SPI_OK_SELECT)
        elog(ERROR, "cannot read leadroute.assignment");
    bool lost = SPI_processed > 0;
    PopActiveSnapshot();
    SPI_finish();
    owner_scope_end(&owner);
    return lost;
}

ClaimOutcome claim_judge(const ClaimRequest* request, const Episode* episode, ClaimResult* result) {
    int32 pool;
    ClaimOutcome outcome = find_pool(request, episode, result, &pool);
    if (outcome == ClaimOutcome::taken)
        outcome = ask_terms(request, episode, pool, result);
    if (outcome == ClaimOutcome::unfit && !request->next &&
        strcmp(result->refusal.why, "avoided") == 0)
        outcome = has_lost(episode, request->terms->rep)
                      ? claim_say(result, ClaimOutcome::unfit, "lost", pool)
                      : ClaimOutcome::taken;
    return outcome;
}

static const char* bar_name(ClaimBar bar) {
    static const char* const names[] = {"",          "",           "no_rep",        "no_member",
                                        "no_member", "rep_paused", "member_paused", "signed_out",
                                        "unskilled", "no_ref",     "open_cap",      "rep_cap",
                                        "member_cap"};
    return names[static_cast<int>(bar)];
}

static ClaimOutcome say_bar(const ClaimPick* pick, int32 pool, ClaimResult* result) {
    if (pick->bar == ClaimBar::memory_full)
        memory_full();
    bool of_lead = pick->bar == ClaimBar::unskilled || pick->bar == ClaimBar::no_ref;
    (void)claim_say(result, of_lead ? ClaimOutcome::unfit : ClaimOutcome::refused,
                    bar_name(pick->bar), pool);
    result->refusal.of_rep = pick->bar == ClaimBar::no_rep || pick->bar == ClaimBar::rep_paused ||
                             pick->bar == ClaimBar::rep_cap || pick->bar == ClaimBar::open_cap;
    result->refusal.used = pick->used;
    result->refusal.cap = pick->cap;
    return of_lead ? ClaimOutcome::unfit : ClaimOutcome::refused;
}

static ClaimOutcome say_allowance(const AllowanceUse* use, int32 pool, ClaimResult* result) {
    result->refusal = {use->which, true, false, pool, use->used, use->limit, use->until};
    return ClaimOutcome::refused;
}

static bool claim_owner(const ClaimRequest* request, Datum* owner) {
    const ClaimTerms* terms = request->terms;
    OwnerKind kind = request->table->owner_kind;
    const char* ref = terms->has_ref ? terms->ref : NULL;
    if (kind == OwnerKind::uuid)
        ref = terms->has_uuid ? terms->uuid : NULL;
    return owner_of(kind, terms->rep, ref, owner);
}

static ClaimOutcome charge(const ClaimRequest* request, const Episode* episode, ClaimResult* result,
                           ClaimPick* pick) {
    int32 pool = in_tank(episode) ? episode->tank_pool : episode->pool;
    Datum owner;
    if (!claim_owner(request, &owner))
        return claim_say(result, ClaimOutcome::unfit, "no_ref", pool);
    AllowanceUse use;
    if (!allowance_left(request->terms, terms_of_pool(request->terms, pool), &use))
        return say_allowance(&use, pool, result);
    Needs needs = {};
    if (episode->needs != 0)
        needs_read(DatumGetArrayTypeP(episode->needs), &needs);
    PickRequest ask = {};
    ask.key = &request->terms->key;
    ask.pool = pool;
    ask.rep = request->terms->rep;
    ask.ref = ref_need(request->table->owner_kind);
    ask.now = GetCurrentTimestamp();
    ask.needs = needs.count > 0 ? &needs : NULL;
    ask.sla_rule = episode->rule;
    ask.pool_bound = episode->pool_bound;
    if (request->table->sla != NULL)
        ask.table_sla = sla_policy_now(request->terms->key.tenant, request->table->sla);
    pick_claim(&ask, pick);
    return pick->bar == ClaimBar::none ? ClaimOutcome::taken : say_bar(pick, pool, result);
}

static void give_back(const Pick* pick) {
    if (pick->slot != NULL)
        charge_undo(pick->slot, pick->pool, pick->rep, pick->day, pick->extra);
    charge_undo_draft();
}

// --- the record ---

static Datum with_avoided(Datum avoid, int64 rep) {
    if (array_has(avoid, rep))
        return avoid;
    if (avoid == 0) {
        Datum one = Int64GetDatum(rep);
        return PointerGetDatum(
            construct_array(&one, 1, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
    }
    ArrayType* array = DatumGetArrayTypePCopy(avoid);
    int at = ARR_LBOUND(array)[0] + ARR_DIMS(array)[0];
    return array_set_element(PointerGetDatum(array), 1, &at, Int64GetDatum(rep), false, -1,
                             sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE);
}

// By SQL: triggers of the record free the capacity of the rep who had it.
static int32 end_of_rep(const Episode* episode) {
    OwnerScope owner;
    owner_scope_begin(&owner);
    SPI_connect();
    Oid types[] = {INT4OID, INT8OID, TEXTOID};
    Datum values[] = {Int32GetDatum(episode->lead_table), Int64GetDatum(episode->tenant),
                      CStringGetTextDatum(episode->lead_id)};
    if (SPI_execute_with_args(
            "SELECT e.next_episode FROM leadroute._end_episode($1, $2, $3, 'claimed') e", 3, types,
            values, NULL, false, 1) != SPI_OK_SELECT ||
        SPI_processed != 1)
        elog(ERROR, "cannot end an episode");
    bool isnull;
    int32 next =
        DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
    SPI_finish();
    owner_scope_end(&owner);
    return next;
}

// A pick in a draft with no memory beside it has no time of its own.
static TimestampTz claimed_at(const Pick* pick) {
    return pick->decided_at != 0 ? pick->decided_at : GetCurrentTimestamp();
}

static void open_claimed(const Episode* episode, const Pick* pick, int32 number, RecordRow* row) {
    episode_carry(episode, row);
    row->episode = number;
    row->method = "claim";
    row->ticket = pick->ticket;
    row->decided_at = claimed_at(pick);
    row->has_rep = row->has_day = row->has_deficit = true;
    row->rep = pick->rep;
    row->pool = pick->pool;
    row->day = pick->day;
    row->rep_cap = pick->rep_cap;
    row->member_cap = pick->member_cap;
    row->open_cap = pick->open_cap;
    row->deficit = (float4)pick->deficit;
    row->tag = pick->tag;
    row->extra = pick->extra;
    sla_record(pick, row);
    if (episode->rep != 0)
        row->avoid = with_avoided(episode->avoid, episode->rep);
    record_write(NULL, row);
}

// What the record says of the lead in the end.
static void show_open(const ClaimRequest* request, ClaimResult* result) {
    Episode episode;
    CommandCounterIncrement();
    const TenantKey* key = &request->terms->key;
    if (!episode_read(key->assignment, key->tenant, request->table->id, request->key.text,
                      &episode))
        elog(ERROR, "lead %s has no open episode", request->key.text);
    tuplestore_puttuple(result->shown, episode.row);
}

// The lead is locked, the turn charged, the waiting episode ended.
static void finish(const ClaimRequest* request, const Episode* episode, const ClaimPick* pick,
                   int32 number, const char* was, ClaimResult* result) {
    RecordRow row = {};
    Datum owner;
    const ClaimTerms* terms = request->terms;
    if (!claim_owner(request, &owner))
        elog(ERROR, "rep %lld has no ref", (long long)terms->rep);
    open_claimed(episode, &pick->pick, number, &row);
    if (lead_update(request->table, &request->key, &owner, was))
        record_show(&row, result->shown);
    else
        show_open(request, result);
    TenantSlot* slot = pick->pick.slot;
    if (slot != NULL && checkpoint_due(slot))
        checkpoint_write_if_due(slot, &terms->key);
}

static bool read_episode(const ClaimRequest* request, Episode* episode) {
    const TenantKey* key = &request->terms->key;
    if (request->row != NULL)
        return episode_fetch(key->assignment, request->row, episode);
    return episode_read(key->assignment, key->tenant, request->table->id, request->key.text,
                        episode);
}

// Ends the episode that stands, and says the next one's number. False: it stands no more.
static bool end_standing(const Episode* episode, const Pick* pick, int32* number) {
    if (episode->rep == 0)
        return episode_end(episode, "claimed", claimed_at(pick), number);
    *number = end_of_rep(episode);
    return true;
}

// What was read of a lead that waits before it was locked is as good: episode_end() notices if it
// has changed.
static bool first_episode(const ClaimRequest* request, Episode* episode) {
    if (request->episode == NULL || request->episode->rep != 0)
        return read_episode(request, episode);
    *episode = *request->episode;
    return true;
}

static ClaimOutcome take_locked(const ClaimRequest* request, const char* was, ClaimResult* result) {
    for (bool first = true;; first = false) {
        Episode episode;
        ClaimPick pick = {};
        int32 number;
        if (!(first ? first_episode(request, &episode) : read_episode(request, &episode)))
            return claim_say(result, ClaimOutcome::gone, "no_lead", 0);
        if (episode.rep == request->terms->rep && strcmp(episode.method, "claim") == 0 &&
            !request->next) {
            tuplestore_puttuple(result->shown, episode.row);
            return ClaimOutcome::taken;
        }
        // an owner that the record does not know of is not overwritten
        if (episode_waits(&episode) && was != NULL)
            return claim_say(result, ClaimOutcome::gone, "unknown_owner", episode.pool);
        ClaimOutcome outcome = claim_judge(request, &episode, result);
        if (outcome == ClaimOutcome::taken)
            outcome = charge(request, &episode, result, &pick);
        if (outcome != ClaimOutcome::taken)
            return outcome;
        if (end_standing(&episode, &pick.pick, &number)) {
            finish(request, &episode, &pick, number, was, result);
            return ClaimOutcome::taken;
        }
        give_back(&pick.pick);
        CHECK_FOR_INTERRUPTS();
    }
}

ClaimOutcome claim_take(const ClaimRequest* request, ClaimResult* result) {
    char* was;
    if (lead_lock(request->table, &request->key, request->next, &was) == LeadLock::skipped)
        return claim_say(result, ClaimOutcome::locked, "no_lead", 0);
    return take_locked(request, was, result);
}

void claim_refuse(const ClaimTerms* terms, const char* level, const ClaimTable* table,
                  const char* key, const ClaimRefusal* refusal) {
    NameData caller;
    namestrcpy(&caller, GetUserNameFromId(GetUserId(), false));
    Oid types[] = {NAMEOID, TEXTOID, INT8OID, INT4OID,        TEXTOID, INT8OID,
                   TEXTOID, INT4OID, INT4OID, TIMESTAMPTZOID, INT4OID};
    Datum values[] = {NameGetDatum(&caller),
                      CStringGetTextDatum(level),
                      Int64GetDatum(terms->key.tenant),
                      Int32GetDatum(table == NULL ? 0 : table->id),
                      key == NULL ? (Datum)0 : CStringGetTextDatum(key),
                      Int64GetDatum(terms->rep),
                      CStringGetTextDatum(refusal->why),
                      Int32GetDatum(refusal->used),
                      Int32GetDatum(refusal->cap),
                      TimestampTzGetDatum(refusal->until),
                      Int32GetDatum(refusal->pool)};
    char nulls[] = "           ";
    nulls[3] = table == NULL ? 'n' : ' ';
    nulls[4] = key == NULL ? 'n' : ' ';
    nulls[9] = refusal->until == DT_NOBEGIN ? 'n' : ' ';
    OwnerScope owner;
    owner_scope_begin(&owner);
    SPI_connect();
    PushActiveSnapshot(GetLatestSnapshot());
    (void)SPI_execute_with_args(
        "SELECT leadroute._refuse_claim($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        lengthof(types), types, values, nulls, false, 1);
    elog(ERROR, "leadroute._refuse_claim() knows no \"%s\"", refusal->why);
}

// --- SQL ---

// As start_rows(), but the rows are not described: they are of the function's declared type, and
// copying that, with the table's defaults and constraints, costs as much as an index entry.
ReturnSetInfo* claim_rows(FunctionCallInfo fcinfo) {
    ReturnSetInfo* rows = reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo);
    if (rows == NULL || !IsA(rows, ReturnSetInfo) || (rows->allowedModes & SFRM_Materialize) == 0)
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("set-valued function called in context that cannot accept a set")));
    MemoryContext caller = MemoryContextSwitchTo(rows->econtext->ecxt_per_query_memory);
    bool random = (rows->allowedModes & SFRM_Materialize_Random) != 0;
    rows->setResult = tuplestore_begin_heap(random, false, work_mem);
    rows->returnMode = SFRM_Materialize;
    MemoryContextSwitchTo(caller);
    return rows;
}

void claim_refuse_null(FunctionCallInfo fcinfo, int rep, int tenant) {
    if (!PG_ARGISNULL(rep) && !PG_ARGISNULL(tenant))
        return;
    ereport(ERROR, (errcode(ERRCODE_LR_NO_SUCH_OBJECT),
                    errmsg("there is no %s NULL", PG_ARGISNULL(rep) ? "rep" : "tenant"),
                    errdetail("A lead is claimed for a rep."),
                    errhint("Give the id of a rep of the lead's tenant.")));
}

static void claim(FunctionCallInfo fcinfo, ReturnSetInfo* rows) {
    int64 tenant = PG_GETARG_INT64(3);
    TenantKey key = {MyDatabaseId, placement(InvalidOid, tenant), tenant};
    int64 rep = PG_GETARG_INT64(2);
    const char* level = pstrdup(claim_level(&key, rep));
    ClaimTable* table =
        claim_table_named(PG_ARGISNULL(0) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(0)));
    ClaimTerms* terms = claim_terms(&key, rep);
    claim_foreign(terms, level);
    const char* id = PG_ARGISNULL(1) ? NULL : lead_id_argument(fcinfo);
    ClaimRequest request = {};
    request.terms = terms;
    request.table = table;
    ClaimResult result = {};
    result.shown = rows->setResult;
    ClaimOutcome outcome = ClaimOutcome::refused;
    if (!terms->known)
        (void)claim_say(&result, outcome, "no_rep", 0);
    else if (id == NULL || !claim_key(table, tenant, id, &request.key))
        (void)claim_say(&result, outcome, "no_lead", 0);
    else {
        if (terms->limited)
            allowance_lock(terms);
        outcome = claim_take(&request, &result);
    }
    if (outcome != ClaimOutcome::taken)
        claim_refuse(terms, level, table, id, &result.refusal);
}

extern "C" {
PG_FUNCTION_INFO_V1(leadroute_claim);

// claim(lead_table text, lead_id, rep bigint, tenant bigint) -> SETOF assignment
Datum leadroute_claim(PG_FUNCTION_ARGS) {
    shared_require();
    claim_refuse_null(fcinfo, 2, 3);
    ReturnSetInfo* rows = claim_rows(fcinfo);
    // what this statement has claimed before counts
    CommandCounterIncrement();
    claim(fcinfo, rows);
    return (Datum)0;
}
}
