// leadroute._replay(), on which replay() and replay_summary() stand; see replay.h.
#include "replay.h"
#include "placement.h"

enum Column {
    R_LEAD,
    R_THEN_REP,
    R_THEN_RULE,
    R_NOW_REP,
    R_NOW_RULE,
    R_CHANGED,
    R_REASON,
    R_VALUE,
    R_FILLED,
    kReplayColumns
};

static void set_number(Datum* values, bool* nulls, Column column, int64 number) {
    values[column] = Int64GetDatum(number);
    nulls[column] = number == 0;
}

static void put_life(ReturnSetInfo* rows, const Replay* replay, const Life* life) {
    const Past* past = &replay->pasts[life->first];
    Datum values[kReplayColumns];
    bool nulls[kReplayColumns] = {};
    values[R_LEAD] = CStringGetTextDatum(life->lead_id);
    set_number(values, nulls, R_THEN_REP, past->rep);
    set_number(values, nulls, R_THEN_RULE, past->rule);
    set_number(values, nulls, R_NOW_REP, life->rep);
    set_number(values, nulls, R_NOW_RULE, life->rule);
    values[R_CHANGED] = BoolGetDatum(!life->as_then);
    nulls[R_REASON] = life->reason == NULL;
    if (life->reason != NULL)
        values[R_REASON] = CStringGetTextDatum(life->reason);
    values[R_VALUE] = Float8GetDatum(life->value);
    nulls[R_VALUE] = life->value == 0;
    nulls[R_FILLED] = life->filled == NULL;
    if (life->filled != NULL)
        values[R_FILLED] = CStringGetTextDatum(life->filled);
    tuplestore_putvalues(rows->setResult, rows->setDesc, values, nulls);
}

// In the order of arrival.
static void put_all(ReturnSetInfo* rows, const Replay* replay) {
    MemoryContext scratch =
        AllocSetContextCreate(CurrentMemoryContext, "leadroute replay row", ALLOCSET_DEFAULT_SIZES);
    MemoryContext caller = MemoryContextSwitchTo(scratch);
    for (int32 i = 0; i < replay->event_count; i++) {
        const Event* event = &replay->events[i];
        const Life* life = &replay->lives[replay->pasts[event->past].life];
        if (event->step != Step::start || event->past != life->first || !life->in_time ||
            life->row == NULL)
            continue;
        put_life(rows, replay, life);
        MemoryContextReset(scratch);
    }
    MemoryContextSwitchTo(caller);
    MemoryContextDelete(scratch);
}

extern "C" {
PG_FUNCTION_INFO_V1(leadroute_replay);

// _replay(relation regclass, tenant bigint, since timestamptz, until timestamptz) -> SETOF
// (lead_id, then_rep, then_rule, now_rep, now_rule, changed, reason, value, filled)
Datum leadroute_replay(PG_FUNCTION_ARGS) {
    if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
        ereport(
            ERROR,
            (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
             errmsg("a lead table and a tenant are needed"), errdetail("One of them is NULL."),
             errhint("leadroute.lead_table lists the tables; who has one company has tenant 0.")));
    shared_require();
    int64 tenant = PG_GETARG_INT64(1);
    require_level(tenant, "{manager}");
    TimestampTz since = PG_ARGISNULL(2) ? DT_NOBEGIN : PG_GETARG_TIMESTAMPTZ(2);
    TimestampTz until = PG_ARGISNULL(3) ? DT_NOEND : PG_GETARG_TIMESTAMPTZ(3);
    if (since > until)
        ereport(ERROR,
                (errcode(ERRCODE_LR_CONFIGURATION), errmsg("until is before since"),
                 errdetail("No lead arrived at or after %s and before %s.",
                           pstrdup(timestamptz_to_str(since)), pstrdup(timestamptz_to_str(until))),
                 errhint("Exchange them.")));
    ReturnSetInfo* rows = start_rows(fcinfo);
    Relation relation = relation_open(PG_GETARG_OID(0), AccessShareLock);
    MemoryContext memory =
        AllocSetContextCreate(CurrentMemoryContext, "leadroute replay", ALLOCSET_DEFAULT_SIZES);
    MemoryContext caller = MemoryContextSwitchTo(memory);
    Replay replay = {};
    replay.relation = relation;
    replay.table = lead_table_of(relation);
    replay.key = {MyDatabaseId, placement(RelationGetRelid(relation), tenant), tenant};
    replay.since = since;
    replay.until = until;
    replay_read(&replay);
    replay_walk(&replay);
    put_all(rows, &replay);
    if (replay.missing > 0)
        ereport(NOTICE, (errmsg("%d leads are left out: they are not in the table any more, or not "
                                "to be seen",
                                replay.missing),
                         errdetail("What they took of turns and caps counts as it did.")));
    MemoryContextSwitchTo(caller);
    MemoryContextDelete(memory);
    relation_close(relation, NoLock);
    return (Datum)0;
}
}
