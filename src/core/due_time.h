// When something is due in business time, however far off that is: where open_windows() lays out a
// stretch that was chosen beforehand, this goes on until the time is used up.
#pragma once

#include "business_time.h"

namespace leadroute::core {

// How many windows due_time() needs room for.
int64_t due_room(const WorkWeek& week, int32_t offset_count) noexcept;
// The instant by which it has been open for `duration`, above 0, from `start` on; INT64_MAX: not
// until `until`. Due at the very end of a window is due then, and not when the next one begins.
int64_t due_time(const WorkWeek& week, const Offset* offsets, int32_t offset_count, int64_t start,
                 int64_t duration, int64_t until, Window* room) noexcept;

} // namespace leadroute::core
