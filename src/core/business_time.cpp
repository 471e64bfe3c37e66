// Business time; see business_time.h. Between two changes of a zone's offset the wall clock runs as
// any other, so that within each such stretch windows are found by plain arithmetic on local time.
#include "business_time.h"

#include <algorithm>

namespace leadroute::core {

namespace {

int64_t day_of(int64_t local) noexcept {
    return local >= 0 ? local / kMicrosPerDay : -((kMicrosPerDay - 1 - local) / kMicrosPerDay);
}

// 2000-01-01 was a Saturday.
int32_t weekday_of(int64_t day) noexcept {
    return static_cast<int32_t>(((day + 5) % 7 + 7) % 7) + 1;
}

bool is_holiday(const WorkWeek& week, int64_t day) noexcept {
    return std::binary_search(week.holidays, week.holidays + week.holiday_count, day);
}

// The spans that begin on the local day, cut to the stretch and put into UTC.
int32_t windows_of_day(const WorkWeek& week, int64_t day, const Window& stretch, int64_t offset,
                       Window* out) noexcept {
    if (is_holiday(week, day))
        return 0;
    int32_t count = 0;
    int32_t weekday = weekday_of(day);
    for (int32_t i = 0; i < week.span_count; i++) {
        const HoursSpan& span = week.spans[i];
        if (span.weekday != weekday)
            continue;
        int64_t midnight = day * kMicrosPerDay - offset;
        int64_t to = midnight + span.closes + (span.closes < span.opens ? kMicrosPerDay : 0);
        Window window = {std::max(midnight + span.opens, stretch.from), std::min(to, stretch.to)};
        if (window.from < window.to)
            out[count++] = window;
    }
    return count;
}

} // namespace

int64_t windows_room(const WorkWeek& week, int32_t offset_count, int64_t from,
                     int64_t to) noexcept {
    if (from >= to)
        return 0;
    // each stretch looks at the days that it touches and the one before
    int64_t days = (to - from) / kMicrosPerDay + 3 * (static_cast<int64_t>(offset_count) + 1);
    return days * week.span_count;
}

int32_t open_windows(const WorkWeek& week, const Offset* offsets, int32_t offset_count,
                     int64_t from, int64_t to, Window* out) noexcept {
    int32_t count = 0;
    for (int32_t i = 0; i < offset_count; i++) {
        Window stretch = {i == 0 ? from : std::max(from, offsets[i].at),
                          i + 1 == offset_count ? to : std::min(to, offsets[i + 1].at)};
        if (stretch.from >= stretch.to)
            continue;
        int64_t offset = offsets[i].seconds * kMicrosPerSecond;
        int64_t last = day_of(stretch.to - 1 + offset);
        for (int64_t day = day_of(stretch.from + offset) - 1; day <= last; day++)
            count += windows_of_day(week, day, stretch, offset, out + count);
    }
    return merge_windows(out, count);
}

int32_t merge_windows(Window* windows, int32_t count) noexcept {
    std::sort(windows, windows + count,
              [](const Window& a, const Window& b) { return a.from < b.from; });
    int32_t kept = 0;
    for (int32_t i = 0; i < count; i++) {
        if (windows[i].from >= windows[i].to)
            continue;
        if (kept > 0 && windows[i].from <= windows[kept - 1].to)
            windows[kept - 1].to = std::max(windows[kept - 1].to, windows[i].to);
        else
            windows[kept++] = windows[i];
    }
    return kept;
}

int32_t find_window(const Window* windows, int32_t count, int64_t t) noexcept {
    return static_cast<int32_t>(
        std::upper_bound(windows, windows + count, t,
                         [](int64_t value, const Window& window) { return value < window.to; }) -
        windows);
}

bool is_open(const Window* windows, int32_t count, int64_t t) noexcept {
    int32_t i = find_window(windows, count, t);
    return i < count && windows[i].from <= t;
}

void changes_around(const Window* windows, int32_t count, int64_t t, int64_t* before,
                    int64_t* after) noexcept {
    int32_t i = find_window(windows, count, t);
    bool open = i < count && windows[i].from <= t;
    *before = INT64_MIN;
    *after = INT64_MAX;
    if (open)
        *before = windows[i].from;
    else if (i > 0)
        *before = windows[i - 1].to;
    if (i < count)
        *after = open ? windows[i].to : windows[i].from;
}

int64_t next_open(const Window* windows, int32_t count, int64_t t) noexcept {
    int32_t i = find_window(windows, count, t);
    return i < count ? std::max(t, windows[i].from) : INT64_MAX;
}

int64_t add_open_time(const Window* windows, int32_t count, int64_t t, int64_t duration) noexcept {
    for (int32_t i = find_window(windows, count, t); i < count; i++) {
        int64_t start = std::max(t, windows[i].from);
        if (duration <= windows[i].to - start)
            return start + duration;
        duration -= windows[i].to - start;
    }
    return INT64_MAX;
}

int64_t open_time_between(const Window* windows, int32_t count, int64_t from, int64_t to) noexcept {
    int64_t sum = 0;
    for (int32_t i = find_window(windows, count, from); i < count && windows[i].from < to; i++)
        sum += std::min(to, windows[i].to) - std::max(from, windows[i].from);
    return std::max<int64_t>(sum, 0);
}

} // namespace leadroute::core
