// Due times; see due_time.h. Goes on by a few weeks at a time.
#include "due_time.h"

#include <algorithm>

namespace leadroute::core {

constexpr int64_t kStretch = 28 * kMicrosPerDay;

int64_t due_room(const WorkWeek& week, int32_t offset_count) noexcept {
    return windows_room(week, offset_count, 0, kStretch);
}

int64_t due_time(const WorkWeek& week, const Offset* offsets, int32_t offset_count, int64_t start,
                 int64_t duration, int64_t until, Window* room) noexcept {
    for (int64_t from = start; from < until; from += kStretch) {
        int64_t to = std::min(until, from + kStretch);
        int32_t count = open_windows(week, offsets, offset_count, from, to, room);
        int64_t due = add_open_time(room, count, from, duration);
        if (due != INT64_MAX)
            return due;
        duration -= open_time_between(room, count, from, to);
    }
    return INT64_MAX;
}

} // namespace leadroute::core
