// Reads absences, working hours and presence when a tenant is loaded; see availability.h.
#include "availability.h"

// How far hours and absences are laid out around now; a day more at either end is for a clock that
// runs on between that and a pick.
constexpr int64 kDaysBack = 3;
constexpr int64 kDaysAhead = 35;

static SPIPlanPtr absence_plan, bounded_plan, shift_plan, hours_plan, holiday_plan, presence_plan;

static SPITupleTable* run(SPIPlanPtr* plan, const char* sql, int count, const Oid* types,
                          Datum* values) {
    if (*plan == NULL) {
        *plan = SPI_prepare(sql, count, const_cast<Oid*>(types));
        if (*plan == NULL || SPI_keepplan(*plan) != 0)
            elog(ERROR, "cannot prepare \"%s\": %s", sql, SPI_result_code_string(SPI_result));
    }
    if (SPI_execute_plan(*plan, values, NULL, true, 0) != SPI_OK_SELECT)
        elog(ERROR, "cannot read the calendars of leadroute");
    return SPI_tuptable;
}

static Datum column(SPITupleTable* table, uint64 row, int number) {
    bool isnull;
    return SPI_getbinval(table->vals[row], table->tupdesc, number, &isnull);
}

static bool is_null(SPITupleTable* table, uint64 row, int number) {
    bool isnull;
    (void)SPI_getbinval(table->vals[row], table->tupdesc, number, &isnull);
    return isnull;
}

static char* text_column(SPITupleTable* table, uint64 row, int number) {
    return TextDatumGetCString(column(table, row, number));
}

static void* room_for(MemoryContext context, Size count, Size size) {
    return MemoryContextAllocHuge(context, (count + 1) * size);
}

// --- absences ---

static void read_absences(int64 tenant, Availability* out, MemoryContext context) {
    static const Oid types[] = {INT8OID, TIMESTAMPTZOID};
    Datum values[] = {Int64GetDatum(tenant),
                      TimestampTzGetDatum(out->horizon_from - USECS_PER_DAY)};
    SPITupleTable* rows = run(
        &absence_plan,
        "SELECT rep,"
        " COALESCE(lower(during), '-infinity') + CASE WHEN lower_inc(during) OR lower_inf(during)"
        "   THEN interval '0' ELSE interval '1 microsecond' END,"
        " COALESCE(upper(during), 'infinity') + CASE WHEN upper_inc(during)"
        "   THEN interval '1 microsecond' ELSE interval '0' END"
        " FROM leadroute.rep_absence WHERE tenant = $1 AND during && tstzrange($2, NULL)"
        " ORDER BY rep",
        2, types, values);
    out->absence_count = (int32)SPI_processed;
    out->absences = static_cast<RepAbsence*>(room_for(context, SPI_processed, sizeof(RepAbsence)));
    for (uint64 i = 0; i < SPI_processed; i++)
        out->absences[i] = {
            DatumGetInt64(column(rows, i, 1)),
            {DatumGetTimestampTz(column(rows, i, 2)), DatumGetTimestampTz(column(rows, i, 3))}};
    SPI_freetuptable(rows);
    if (out->absence_count > 0)
        return;
    rows = run(&bounded_plan, "SELECT 1 FROM leadroute.rep_absence WHERE tenant = $1 LIMIT 1", 1,
               types, values);
    if (SPI_processed == 0)
        out->horizon_from = DT_NOBEGIN;
    SPI_freetuptable(rows);
}

// --- working hours ---

void calendar_hours_read(int64 tenant, Datum calendar, TimestampTz from, TimestampTz to,
                         CalendarHours* hours) {
    static const Oid types[] = {INT8OID, TEXTOID, DATEOID, DATEOID};
    // a day may be two off that of UTC
    Datum values[] = {Int64GetDatum(tenant), calendar,
                      DateADTGetDatum((DateADT)(from / USECS_PER_DAY - 4)),
                      DateADTGetDatum((DateADT)(to / USECS_PER_DAY + 4))};
    SPITupleTable* rows = run(&hours_plan,
                              "SELECT weekday, opens, closes FROM leadroute.calendar_hours"
                              " WHERE tenant = $1 AND calendar = $2",
                              2, types, values);
    hours->spans =
        static_cast<core::HoursSpan*>(palloc(sizeof(core::HoursSpan) * (SPI_processed + 1)));
    for (uint64 i = 0; i < SPI_processed; i++)
        hours->spans[i] = {DatumGetInt32(column(rows, i, 1)), DatumGetTimeADT(column(rows, i, 2)),
                           DatumGetTimeADT(column(rows, i, 3))};
    hours->week.span_count = (int32)SPI_processed;
    SPI_freetuptable(rows);
    rows = run(&holiday_plan,
               "SELECT day FROM leadroute.calendar_holiday"
               " WHERE tenant = $1 AND calendar = $2 AND day BETWEEN $3 AND $4 ORDER BY day",
               4, types, values);
    hours->holidays = static_cast<int32*>(palloc(sizeof(int32) * (SPI_processed + 1)));
    for (uint64 i = 0; i < SPI_processed; i++)
        hours->holidays[i] = DatumGetDateADT(column(rows, i, 1));
    hours->week.holiday_count = (int32)SPI_processed;
    SPI_freetuptable(rows);
    hours->week.spans = hours->spans;
    hours->week.holidays = hours->holidays;
}

int32 zone_offsets(const char* name, TimestampTz from, TimestampTz to, core::Offset* out) {
    pg_tz* zone = pg_tzset(name);
    if (zone == NULL)
        ereport(ERROR, (errcode(ERRCODE_LR_CONFIGURATION),
                        errmsg("time zone \"%s\" is not known to this server", name),
                        errhint("See the view pg_timezone_names.")));
    int32 count = 0;
    TimestampTz at = from;
    while (count < kMostOffsets) {
        pg_time_t t = timestamptz_to_time_t(at);
        pg_time_t boundary;
        long before, after;
        int before_is_dst, after_is_dst;
        int found = pg_next_dst_boundary(&t, &before, &before_is_dst, &boundary, &after,
                                         &after_is_dst, zone);
        out[count++] = {at, (int32)before};
        if (found != 1 || time_t_to_timestamptz(boundary) >= to)
            break;
        at = time_t_to_timestamptz(boundary);
    }
    return count;
}

static void add_shift(Availability* out, const CalendarHours* hours, const char* zone, int32* room,
                      MemoryContext context) {
    TimestampTz from = out->horizon_from - USECS_PER_DAY;
    TimestampTz to = out->horizon_until + USECS_PER_DAY;
    core::Offset offsets[kMostOffsets];
    int32 count = zone_offsets(zone, from, to, offsets);
    int64 needed = out->window_count + core::windows_room(hours->week, count, from, to);
    if (needed > *room) {
        *room = (int32)(needed * 2);
        Size bytes = sizeof(core::Window) * *room;
        out->windows =
            static_cast<core::Window*>(out->windows == NULL ? MemoryContextAllocHuge(context, bytes)
                                                            : repalloc_huge(out->windows, bytes));
    }
    int32 made =
        core::open_windows(hours->week, offsets, count, from, to, out->windows + out->window_count);
    out->shifts[out->shift_count++] = {out->window_count, made};
    out->window_count += made;
}

// Of reps their own calendars, and of policies in business time theirs, in each zone of reps who
// have none.
static const char kShifts[] =
    "SELECT r.id, c.name, COALESCE(c.timezone, r.timezone), 0, NULL"
    " FROM leadroute.rep r JOIN leadroute.calendar c ON c.tenant = r.tenant AND c.name = r.calendar"
    " WHERE r.tenant = $1"
    " UNION ALL SELECT 0, c.name, COALESCE(c.timezone, z.timezone), s.id,"
    "   CASE WHEN c.timezone IS NULL THEN z.timezone END"
    " FROM leadroute.sla_policy s"
    " JOIN leadroute.calendar c ON c.tenant = s.tenant AND c.name = s.calendar"
    " CROSS JOIN LATERAL (SELECT r.timezone FROM leadroute.rep r"
    "   WHERE r.tenant = s.tenant AND r.calendar IS NULL AND c.timezone IS NULL GROUP BY r.timezone"
    "   UNION ALL SELECT c.timezone WHERE c.timezone IS NOT NULL) z"
    " WHERE s.tenant = $1 AND s.business_time ORDER BY 2, 3";

static int compare_policy_shifts(const void* a, const void* b) {
    int32 x = static_cast<const PolicyShift*>(a)->policy;
    int32 y = static_cast<const PolicyShift*>(b)->policy;
    return x < y ? -1 : x > y;
}

static void add_user(SPITupleTable* rows, uint64 i, Availability* out) {
    int32 policy = DatumGetInt32(column(rows, i, 4));
    if (policy == 0)
        out->rep_shifts[out->rep_shift_count++] = {DatumGetInt64(column(rows, i, 1)),
                                                   out->shift_count - 1};
    else
        out->policy_shifts[out->policy_shift_count++] = {
            policy, is_null(rows, i, 5) ? -1 : zone_number(text_column(rows, i, 5)),
            out->shift_count - 1};
}

// One shift for each calendar in each zone in which somebody works by it.
static void read_shifts(int64 tenant, Availability* out, MemoryContext context) {
    static const Oid types[] = {INT8OID};
    Datum values[] = {Int64GetDatum(tenant)};
    SPITupleTable* rows = run(&shift_plan, kShifts, 1, types, values);
    uint64 count = SPI_processed;
    out->rep_shifts = static_cast<RepShift*>(room_for(context, count, sizeof(RepShift)));
    out->policy_shifts = static_cast<PolicyShift*>(room_for(context, count, sizeof(PolicyShift)));
    out->shifts = static_cast<ShiftState*>(room_for(context, count, sizeof(ShiftState)));
    CalendarHours hours = {};
    int32 room = 0;
    const char *calendar = "", *zone = "";
    for (uint64 i = 0; i < count; i++) {
        char* this_calendar = text_column(rows, i, 2);
        char* this_zone = text_column(rows, i, 3);
        bool other = strcmp(calendar, this_calendar) != 0;
        if (other)
            calendar_hours_read(tenant, column(rows, i, 2), out->horizon_from, out->horizon_until,
                                &hours);
        if (other || strcmp(zone, this_zone) != 0)
            add_shift(out, &hours, this_zone, &room, context);
        calendar = this_calendar;
        zone = this_zone;
        add_user(rows, i, out);
    }
    qsort(out->policy_shifts, out->policy_shift_count, sizeof(PolicyShift), compare_policy_shifts);
    SPI_freetuptable(rows);
}

// --- presence ---

static void read_presence(int64 tenant, Availability* out, MemoryContext context) {
    static const Oid types[] = {INT8OID};
    Datum values[] = {Int64GetDatum(tenant)};
    SPITupleTable* rows = run(&presence_plan,
                              "SELECT rep, version, signed_in_at, seen_at, signed_out_at"
                              " FROM leadroute.presence WHERE tenant = $1",
                              1, types, values);
    out->presence_count = (int32)SPI_processed;
    out->presences =
        static_cast<RepPresence*>(room_for(context, SPI_processed, sizeof(RepPresence)));
    for (uint64 i = 0; i < SPI_processed; i++) {
        TimestampTz seen = DatumGetTimestampTz(column(rows, i, 4));
        out->presences[i] = {DatumGetInt64(column(rows, i, 1)),
                             {DatumGetTimestampTz(column(rows, i, 3)),
                              is_null(rows, i, 5) ? seen : DT_NOBEGIN, seen,
                              DatumGetInt32(column(rows, i, 2))}};
    }
    SPI_freetuptable(rows);
}

Horizon horizon_now(void) {
    TimestampTz now = GetCurrentTimestamp();
    return {now - kDaysBack * USECS_PER_DAY, now + kDaysAhead * USECS_PER_DAY};
}

const Availability* availability_read(int64 tenant, const Horizon* horizon, MemoryContext context) {
    Availability* out =
        static_cast<Availability*>(MemoryContextAllocZero(context, sizeof(Availability)));
    out->horizon_from = horizon->from;
    out->horizon_until = horizon->until;
    read_shifts(tenant, out, context);
    TimestampTz from = out->horizon_from;
    read_absences(tenant, out, context);
    read_presence(tenant, out, context);
    if (out->shift_count > 0)
        out->horizon_from = from;
    else
        out->horizon_until = DT_NOEND;
    return out;
}

// --- into a block ---

void availability_room(const Availability* from, BlockRoom* room) {
    room->shifts = from->shift_count;
    room->windows = from->window_count + from->absence_count;
    room->policy_shifts = from->policy_shift_count;
}

static void fill_absences(TenantBlock* block, const Availability* from) {
    int32 next = from->window_count;
    for (int32 i = 0; i < from->absence_count;) {
        int32 first = next;
        int64 id = from->absences[i].rep;
        for (; i < from->absence_count && from->absences[i].rep == id; i++)
            *block->window(next++) = from->absences[i].window;
        RepState* rep = rep_of(block, id);
        if (rep == NULL)
            continue;
        rep->first_absence = first;
        rep->absence_count = core::merge_windows(block->window(first), next - first);
    }
}

void availability_fill(TenantBlock* block, const Availability* from) {
    block->horizon_from = from->horizon_from;
    block->horizon_until = from->horizon_until;
    if (from->shift_count > 0)
        memcpy(block->shift(0), from->shifts, sizeof(ShiftState) * from->shift_count);
    if (from->window_count > 0) // none: calendars without hours
        memcpy(block->window(0), from->windows, sizeof(core::Window) * from->window_count);
    for (int32 i = 0; i < block->rep_count; i++) {
        block->rep(i)->shift = -1;
        block->rep(i)->presence.seen = DT_NOBEGIN;
    }
    for (int32 i = 0; i < from->rep_shift_count; i++)
        if (RepState* rep = rep_of(block, from->rep_shifts[i].rep))
            rep->shift = from->rep_shifts[i].shift;
    fill_absences(block, from);
    for (int32 i = 0; i < from->presence_count; i++)
        if (RepState* rep = rep_of(block, from->presences[i].rep))
            rep->presence = from->presences[i].presence;
}
