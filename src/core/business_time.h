// Business time: when the wall clock of a zone shows working hours.
//
// The rule is one sentence: it is open at an instant when the clock on the wall then shows a time
// of day within a span of that day's hours, or within one that began the day before and goes over
// midnight; a holiday has no span of its own. So on the days when clocks change, hours that a clock
// leaves out are not worked and hours that it shows twice are worked twice.
//
// All instants are microseconds since 2000-01-01 00:00 UTC; windows are half-open, [from, to).
// Nothing here allocates, throws, looks at a clock or knows a time zone: offsets are given.
#pragma once

#include <cstdint>

namespace leadroute::core {

constexpr int64_t kMicrosPerSecond = 1000000;
constexpr int64_t kMicrosPerDay = 86400 * kMicrosPerSecond;

// Hours that begin on a day of the week, as times of day in microseconds. closes may be a whole
// day; below opens it is of the next day.
struct HoursSpan {
    int32_t weekday; // 1 is Monday, 7 is Sunday
    int64_t opens;
    int64_t closes;
};

// A calendar's spans, and its holidays as days since 2000-01-01, sorted.
struct WorkWeek {
    const HoursSpan* spans;
    int32_t span_count;
    const int32_t* holidays;
    int32_t holiday_count;
};

// A zone's offset from an instant on until the next one's; the first counts for all before it.
struct Offset {
    int64_t at;
    int32_t seconds; // east of UTC
};

struct Window {
    int64_t from;
    int64_t to;
};

// How many windows open_windows() needs room for.
int64_t windows_room(const WorkWeek& week, int32_t offset_count, int64_t from, int64_t to) noexcept;
// Writes the open windows within [from, to), merged and sorted, and returns their number. `offsets`
// are sorted, at least one.
int32_t open_windows(const WorkWeek& week, const Offset* offsets, int32_t offset_count,
                     int64_t from, int64_t to, Window* out) noexcept;
// Sorts windows, drops empty ones and joins those that touch; returns how many are left.
int32_t merge_windows(Window* windows, int32_t count) noexcept;

// For merged windows:

// The first that ends after t: t is within it, or before it. `count` when there is none.
int32_t find_window(const Window* windows, int32_t count, int64_t t) noexcept;
bool is_open(const Window* windows, int32_t count, int64_t t) noexcept;
// The instants next to t at which it opens or closes: none later than t in *before, none sooner
// than after t in *after. INT64_MIN and INT64_MAX when there is none.
void changes_around(const Window* windows, int32_t count, int64_t t, int64_t* before,
                    int64_t* after) noexcept;
// The first open instant at or after t; INT64_MAX: none.
int64_t next_open(const Window* windows, int32_t count, int64_t t) noexcept;
// The instant by which it has been open for `duration` from t on; INT64_MAX: it never will.
int64_t add_open_time(const Window* windows, int32_t count, int64_t t, int64_t duration) noexcept;
// How long it is open within [from, to).
int64_t open_time_between(const Window* windows, int32_t count, int64_t from, int64_t to) noexcept;

} // namespace leadroute::core
