// Due times asked of the tables; see sla_far.h.
#include "sla_far.h"
#include "../core/due_time.h"
#include "availability.h"
#include "record.h"
#include "sla.h"

// In a calendar with hours ten years of business time are up by then.
constexpr int64 kYears = 100;

// Under a policy (its id), for a rep: whether all hours count, else by which calendar and zone; and
// the times of its first touch and first step.
static const char kClock[] =
    "SELECT NOT s.business_time OR c.name IS NULL, c.name, COALESCE(c.timezone, r.timezone, 'UTC'),"
    " t.touch, LEAST(t.touch, (SELECT min(GREATEST(1, COALESCE((EXTRACT(epoch FROM p.after) * "
    "1000000)::bigint, (t.touch * p.share)::bigint)))"
    "   FROM leadroute.sla_step p WHERE p.tenant = s.tenant AND p.policy = s.name))"
    " FROM leadroute.sla_policy s"
    " CROSS JOIN LATERAL (SELECT (EXTRACT(epoch FROM s.first_touch) * 1000000)::bigint AS touch) t"
    " LEFT JOIN leadroute.rep r ON r.tenant = s.tenant AND r.id = $3"
    " LEFT JOIN leadroute.calendar c"
    "   ON c.tenant = s.tenant AND c.name = COALESCE(r.calendar, s.calendar)"
    " WHERE s.tenant = $1 AND s.id = $2";

struct Clock {
    bool found;
    bool all_hours;
    int64 first_touch;
    int64 first_step;
    CalendarHours hours;
    core::Offset offsets[kMostOffsets];
    int32 offset_count;
    core::Window* room;
};

static Datum column(HeapTuple row, TupleDesc columns, int number) {
    bool isnull;
    return SPI_getbinval(row, columns, number, &isnull);
}

// Within SPI, whose memory it lives in.
static void clock_read(int64 tenant, int32 policy, int64 rep, TimestampTz start, Clock* clock) {
    Oid types[] = {INT8OID, INT4OID, INT8OID};
    Datum values[] = {Int64GetDatum(tenant), Int32GetDatum(policy), Int64GetDatum(rep)};
    if (SPI_execute_with_args(kClock, 3, types, values, NULL, true, 1) != SPI_OK_SELECT)
        elog(ERROR, "cannot read leadroute.sla_policy");
    clock->found = SPI_processed == 1;
    if (!clock->found)
        return;
    HeapTuple row = SPI_tuptable->vals[0];
    TupleDesc columns = SPI_tuptable->tupdesc;
    clock->all_hours = DatumGetBool(column(row, columns, 1));
    clock->first_touch = DatumGetInt64(column(row, columns, 4));
    clock->first_step = DatumGetInt64(column(row, columns, 5));
    if (clock->all_hours)
        return;
    Datum calendar = column(row, columns, 2);
    char* zone = TextDatumGetCString(column(row, columns, 3));
    TimestampTz until = start + kYears * 366 * USECS_PER_DAY;
    calendar_hours_read(tenant, calendar, start, until, &clock->hours);
    clock->offset_count = zone_offsets(zone, start, until, clock->offsets);
    clock->room = static_cast<core::Window*>(palloc(
        sizeof(core::Window) * (core::due_room(clock->hours.week, clock->offset_count) + 1)));
}

static TimestampTz clock_at(const Clock* clock, TimestampTz start, int64 after) {
    if (clock->all_hours)
        return start + after;
    if (clock->hours.week.span_count == 0)
        return DT_NOEND;
    return core::due_time(clock->hours.week, clock->offsets, clock->offset_count, start, after,
                          start + kYears * 366 * USECS_PER_DAY, clock->room);
}

void sla_far(RecordRow* row) {
    OwnerScope owner;
    owner_scope_begin(&owner);
    SPI_connect();
    PushActiveSnapshot(GetLatestSnapshot());
    Clock clock = {};
    clock_read(row->tenant, row->sla, row->rep, row->decided_at, &clock);
    if (clock.found) {
        row->due_at = clock_at(&clock, row->decided_at, clock.first_touch);
        row->next_step_at = clock_at(&clock, row->decided_at, clock.first_step);
    }
    PopActiveSnapshot();
    SPI_finish();
    owner_scope_end(&owner);
}

TimestampTz sla_far_at(int64 tenant, int32 policy, int64 rep, TimestampTz start, int64 after) {
    SPI_connect();
    Clock clock = {};
    clock_read(tenant, policy, rep, start, &clock);
    TimestampTz at = clock.found ? clock_at(&clock, start, after) : DT_NOEND;
    SPI_finish();
    return at;
}

extern "C" {
PG_FUNCTION_INFO_V1(leadroute_sla_at);

// _sla_at(tenant bigint, policy integer, rep bigint, start timestamptz, after interval)
Datum leadroute_sla_at(PG_FUNCTION_ARGS) {
    const Interval* after = PG_GETARG_INTERVAL_P(4);
    PG_RETURN_TIMESTAMPTZ(sla_far_at(PG_GETARG_INT64(0), PG_GETARG_INT32(1),
                                     PG_ARGISNULL(2) ? 0 : PG_GETARG_INT64(2),
                                     PG_GETARG_TIMESTAMPTZ(3), sla_microseconds(after)));
}
}
