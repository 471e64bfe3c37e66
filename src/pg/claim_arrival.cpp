// Telling the claim cursors of leads that come to a queue.
#include "claim_arrival.h"
#include "claim_cursor.h"
#include "place.h"
#include "trigger_call.h"

static void arrive(Oid assignment, int64 tenant, int32 pool, bool tank, const ClaimPlace* place) {
    ClaimQueue queue = {{MyDatabaseId, assignment, tenant}, pool, tank};
    claim_cursor_arrived(&queue, place);
}

void claim_arrival_note(const RecordRow* row) {
    if (row->has_rep || row->pool == 0)
        return;
    ClaimPlace place;
    place.place = row->at_front    ? PG_INT32_MIN
                  : row->has_label ? place_of_label(row->label)
                                   : PG_INT32_MAX;
    place.minus_score = row->has_score ? -row->score : get_float8_infinity();
    place.since = row->decided_at;
    arrive(row->assignment, row->tenant, row->pool, false, &place);
}

static Datum column(const TriggerData* data, HeapTuple tuple, const char* name, bool* isnull) {
    AttrNumber number = get_attnum(RelationGetRelid(data->tg_relation), name);
    return heap_getattr(tuple, number, RelationGetDescr(data->tg_relation), isnull);
}

static void arrive_by_trigger(const TriggerData* data, HeapTuple row, const char* pool_column,
                              bool tank) {
    bool isnull;
    Datum pool = column(data, row, pool_column, &isnull);
    if (isnull)
        return;
    int64 tenant = DatumGetInt64(column(data, row, "tenant", &isnull));
    // the front of the queue, whatever its place
    ClaimPlace place = {PG_INT32_MIN, -get_float8_infinity(), DT_NOBEGIN, ""};
    arrive(RelationGetRelid(data->tg_relation), tenant, DatumGetInt32(pool), tank, &place);
}

extern "C" {
PG_FUNCTION_INFO_V1(leadroute_claim_arrived);

// AFTER ROW on assignment, for rows of a queue.
Datum leadroute_claim_arrived(PG_FUNCTION_ARGS) {
    TriggerData* data = trigger_data(fcinfo);
    HeapTuple row =
        TRIGGER_FIRED_BY_UPDATE(data->tg_event) ? data->tg_newtuple : data->tg_trigtuple;
    bool waits;
    (void)column(data, row, "rep", &waits);
    if (waits)
        arrive_by_trigger(data, row, "pool", false);
    arrive_by_trigger(data, row, "tank_pool", true);
    PG_RETURN_POINTER(NULL);
}
}
