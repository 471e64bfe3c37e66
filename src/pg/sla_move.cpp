// Taking a lead from a rep who has missed it, for somebody else: the part of a step that decides,
// records, and tells the lead. Its row is locked, so its record stands still.
#include "again.h"
#include "returns.h"
#include "sla_step.h"
#include "tenant.h"
#include "transaction.h"

// --- who does not get it ---

struct RepSet {
    int64* reps;
    int count;
};

static bool has(const RepSet* set, int64 rep) {
    for (int i = 0; i < set->count; i++)
        if (set->reps[i] == rep)
            return true;
    return false;
}

static int compare_reps(const void* a, const void* b) {
    int64 x = *static_cast<const int64*>(a), y = *static_cast<const int64*>(b);
    return x < y ? -1 : (x > y ? 1 : 0);
}

// The latest so many who missed the lead, the one it is taken from included, and those who gave it
// up; sorted.
static Datum avoided(const SlaEpisode* e, const SlaPast* past, int32 most) {
    RepSet missed = {past->missed, past->missed_count};
    int given = 0;
    Datum* former = NULL;
    bool* nulls = NULL;
    if (e->avoid != 0)
        deconstruct_array(DatumGetArrayTypeP(e->avoid), INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
                          TYPALIGN_DOUBLE, &former, &nulls, &given);
    RepSet all = {static_cast<int64*>(palloc(sizeof(int64) * (1 + missed.count + given))), 0};
    all.reps[all.count++] = e->rep;
    for (int i = 0; i < missed.count && all.count < most; i++)
        if (!has(&all, missed.reps[i]))
            all.reps[all.count++] = missed.reps[i];
    for (int i = 0; i < given; i++)
        if (!nulls[i] && !has(&missed, DatumGetInt64(former[i])) &&
            !has(&all, DatumGetInt64(former[i])))
            all.reps[all.count++] = DatumGetInt64(former[i]);
    qsort(all.reps, all.count, sizeof(int64), compare_reps);
    Datum* reps = static_cast<Datum*>(palloc(sizeof(Datum) * all.count));
    for (int i = 0; i < all.count; i++)
        reps[i] = Int64GetDatum(all.reps[i]);
    return PointerGetDatum(
        construct_array(reps, all.count, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

// --- the record ---

static Datum column(const SlaLead* lead, SlaColumn which, bool* isnull) {
    AttrNumber place = lead->batch->record.column[which];
    *isnull = lead->episode->nulls[place - 1];
    return *isnull ? (Datum)0 : lead->episode->values[place - 1];
}

// The rep's capacity comes back at commit.
static void free_capacity(const SlaLead* lead) {
    TenantKey key = {MyDatabaseId, lead->batch->record.assignment, lead->episode->tenant};
    Held held = {};
    held.effect = core::Effect::end;
    held.rep = lead->episode->rep;
    held.turns = 1;
    int64 ticket;
    if (!return_note(&key, &held, &ticket))
        record_edited(key.assignment, key.tenant, false);
}

// So does the turn, where the policy says so.
static void credit_back(SlaLead* lead) {
    const SlaRecord* record = &lead->batch->record;
    SlaEpisode* e = lead->episode;
    bool credited, no_day, no_cost;
    (void)column(lead, S_CREDITED_AT, &credited);
    if (!lead->terms->returns_turn || e->manual || e->pool == 0 || !credited)
        return;
    TenantKey key = {MyDatabaseId, record->assignment, e->tenant};
    bool returns_cap = sla_credit_returns_cap(lead->tenant, e->pool);
    Datum day = column(lead, S_DAY, &no_day);
    Datum cost = column(lead, S_COST, &no_cost);
    Held held = {returns_cap && !no_day ? core::Effect::credit_day : core::Effect::credit,
                 e->pool,
                 e->rep,
                 no_day ? 0 : DatumGetDateADT(day),
                 1,
                 no_cost ? 0 : core::extra_of(DatumGetFloat8(cost))};
    int64 ticket = 0;
    if (!return_note(&key, &held, &ticket)) {
        record_edited(key.assignment, key.tenant, true);
        checkpoint_bar(&key);
    }
    sla_set(record, e, S_CREDITED_AT, TimestampTzGetDatum(GetCurrentTimestamp()));
    sla_set(record, e, S_CREDITED_BY, CStringGetTextDatum("leadroute"));
    sla_set(record, e, S_CREDIT_REASON,
            CStringGetTextDatum(psprintf("policy \"%s\"", lead->terms->name)));
    sla_set(record, e, S_CREDIT_DAY, BoolGetDatum(returns_cap));
    sla_set(record, e, S_CREDIT_TICKET, Int64GetDatum(ticket));
}

// Ends the episode, and says its number.
static int32 end_episode(SlaLead* lead, const SlaPast* past, TimestampTz at) {
    const SlaRecord* record = &lead->batch->record;
    SlaEpisode* e = lead->episode;
    int32 number = Max(e->number, past->last_number + 1);
    free_capacity(lead);
    credit_back(lead);
    sla_set(record, e, S_EPISODE, Int32GetDatum(number));
    sla_set(record, e, S_ENDED_AT, TimestampTzGetDatum(at));
    sla_set(record, e, S_END_REASON, CStringGetTextDatum("breached"));
    sla_write(record, e, true);
    return number;
}

// --- the lead ---

// Its rule's label sets other columns, too.
static void update_columns(const SlaLead* lead, const LeadTable* table, const Lead* row,
                           const Decision* d) {
    Datum texts[2] = {};
    bool missing[2];
    decision_texts(table, row, d, texts, missing);
    Oid types[] = {INT4OID, OIDOID, TEXTOID, INT8OID, TEXTOID, TEXTOID, TEXTOID};
    Datum values[] = {Int32GetDatum(lead->table->id),
                      ObjectIdGetDatum(RelationGetRelid(lead->table->relation)),
                      CStringGetTextDatum(lead->key.text),
                      Int64GetDatum(lead->key.tenant),
                      texts[0],
                      lead->was == NULL ? (Datum)0 : CStringGetTextDatum(lead->was),
                      texts[1]};
    char nulls[] = "       ";
    nulls[5] = lead->was == NULL ? 'n' : ' ';
    nulls[6] = missing[1] ? 'n' : ' ';
    if (SPI_execute_with_args(
            "SELECT leadroute._update_lead($2, leadroute._owner_update(t, $2, $3, $4, $5), $6, $7,"
            "  leadroute._search_path_of(c.relowner))"
            " FROM leadroute.lead_table t, pg_class c WHERE t.id = $1 AND c.oid = $2",
            7, types, values, nulls, false, 1) != SPI_OK_SELECT)
        elog(ERROR, "cannot update a lead");
    SPI_freetuptable(SPI_tuptable);
}

static bool sets_owner_alone(const Decision* d) {
    return (d->sets_owner || !d->assigned) && (d->rule == NULL || d->rule->label_count == 0);
}

// Writes the new episode: with others, where nobody can look for it before they are written.
static void write_next(const SlaLead* lead, const Decision* d) {
    SlaBatch* batch = lead->batch;
    if (batch->buffers && sets_owner_alone(d) && lead_is_direct(lead->table->leads)) {
        record_buffer(&batch->buffer, &d->row);
        return;
    }
    record_flush(batch->buffer);
    record_write(NULL, &d->row);
}

static void tell_lead(SlaLead* lead, const LeadTable* table, const Lead* row, const Decision* d) {
    if (sets_owner_alone(d))
        (void)lead_update(lead->table->leads, &lead->key, d->sets_owner ? &d->owner : NULL,
                          lead->was);
    else
        update_columns(lead, table, row, d);
}

// What was before it. A lead's first episode has nothing before it, but where its key had been
// another lead's: then the index of ended episodes refuses the number, all of the batch is undone,
// and looked up when it is done again.
static void look_back(SlaLead* lead, SlaPast* past) {
    const SlaEpisode* e = lead->episode;
    *past = {};
    if (e->number > 1 || !lead->batch->keys_are_new)
        sla_past(&lead->batch->record, &lead->batch->reader, e, past);
}

const char* sla_move(SlaLead* lead, const SlaMove* move, TimestampTz at) {
    Relation relation = lead->table->relation;
    LeadTable* table = lead_table_of(relation);
    bool made;
    TupleTableSlot* slot = lead_row(lead->table->leads, &lead->key, relation, &made);
    Lead row;
    if (slot == NULL || !lead_read(table, relation, slot, &row))
        elog(ERROR, "lead %s cannot be read", lead->key.text);
    SlaPast past;
    look_back(lead, &past);
    Standing standing = {};
    standing.avoid = avoided(lead->episode, &past, lead->terms->exclude_last);
    standing.hops = move->recycled ? 0 : lead->episode->hops + 1;
    Reroute how = {move->pool, move->bound};
    Decision decision;
    TenantRules* rules = lead_table_rules(table, relation, &row.key, frame_current());
    decide_reroute(table, rules, &row, &standing, &how, &decision);
    decision.row.episode = end_episode(lead, &past, at) + 1;
    write_next(lead, &decision);
    decide_alerts(table, &row, &decision);
    if (decision.slot != NULL && checkpoint_due(decision.slot))
        checkpoint_write_if_due(decision.slot, &row.key);
    tell_lead(lead, table, &row, &decision);
    if (made)
        ExecDropSingleTupleTableSlot(slot);
    return decision.assigned ? psprintf("is now rep %lld's", (long long)decision.row.rep)
                             : "waits now";
}
