// Due times in business time: cases worked out by hand on a calendar of 2026, and a model that
// waits minute by minute.
#include "due_time.h"
#include "calendars.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <random>

namespace leadroute::test {
namespace {

using Zone = std::vector<core::Offset>;

int64_t due(const Calendar& calendar, const Zone& zone, int64_t start, int64_t duration,
            int64_t until = utc(2036, 1, 1)) {
    auto zones = static_cast<int32_t>(zone.size());
    // of the exact size, so that AddressSanitizer sees any access beyond
    std::unique_ptr<core::Window[]> room(new core::Window[core::due_room(calendar.week(), zones)]);
    return core::due_time(calendar.week(), zone.data(), zones, start, duration, until, room.get());
}

struct Case {
    const char* what;
    Calendar calendar;
    const Zone* zone;
    int64_t start;
    int64_t duration;
    int64_t due;
};

Calendar office_of_england() {
    Calendar calendar = office();
    calendar.holidays = {day(2026, 4, 3), day(2026, 4, 6), day(2026, 12, 25), day(2026, 12, 26),
                         day(2026, 12, 28)};
    return calendar;
}

// Monday to Friday from 22:00 to 6:00 of the next day.
Calendar nights() {
    Calendar calendar;
    for (int32_t weekday = 1; weekday <= 5; weekday++)
        calendar.spans.push_back({weekday, 22 * kHour, 6 * kHour});
    return calendar;
}

// 9:00 to 12:30 and 13:30 to 17:00.
Calendar with_lunch() {
    Calendar calendar;
    for (int32_t weekday = 1; weekday <= 5; weekday++) {
        calendar.spans.push_back({weekday, 9 * kHour, 12 * kHour + 30 * kMinute});
        calendar.spans.push_back({weekday, 13 * kHour + 30 * kMinute, 17 * kHour});
    }
    return calendar;
}

// 2026-11-20 is a Friday. Berlin is UTC+1, from March 29 1:00 UTC to October 25 1:00 UTC UTC+2.
const Case kByHand[] = {
    {"within the day", office(), &kUtc, utc(2026, 11, 18, 10), 30 * kMinute,
     utc(2026, 11, 18, 10, 30)},
    {"before it opens", office(), &kUtc, utc(2026, 11, 18, 3), 30 * kMinute,
     utc(2026, 11, 18, 9, 30)},
    {"to the minute it closes", office(), &kUtc, utc(2026, 11, 18, 16), kHour,
     utc(2026, 11, 18, 17)},
    {"a minute more", office(), &kUtc, utc(2026, 11, 18, 16), kHour + kMinute,
     utc(2026, 11, 19, 9, 1)},
    {"when it closes", office(), &kUtc, utc(2026, 11, 18, 17), kMinute, utc(2026, 11, 19, 9, 1)},
    {"Friday evening", office(), &kUtc, utc(2026, 11, 20, 18, 30), 15 * kMinute,
     utc(2026, 11, 23, 9, 15)},
    {"Friday before the close", office(), &kUtc, utc(2026, 11, 20, 16, 50), 15 * kMinute,
     utc(2026, 11, 23, 9, 5)},
    {"Sunday", office(), &kUtc, utc(2026, 11, 22, 12), 8 * kHour, utc(2026, 11, 23, 17)},
    {"three working days", office(), &kUtc, utc(2026, 11, 19, 12), 24 * kHour,
     utc(2026, 11, 24, 12)},
    {"a whole week", office(), &kUtc, utc(2026, 11, 18, 12), 40 * kHour, utc(2026, 11, 25, 12)},
    {"half a year", office(), &kUtc, utc(2026, 1, 5, 9), 26 * 40 * kHour, utc(2026, 7, 3, 17)},
    {"over lunch", with_lunch(), &kUtc, utc(2026, 11, 18, 12), kHour, utc(2026, 11, 18, 14)},
    {"at lunch", with_lunch(), &kUtc, utc(2026, 11, 18, 13), kHour, utc(2026, 11, 18, 14, 30)},
    {"Christmas Eve", office_of_england(), &kUtc, utc(2026, 12, 24, 16, 30), kHour,
     utc(2026, 12, 29, 9, 30)},
    {"Good Friday and Easter Monday", office_of_england(), &kUtc, utc(2026, 4, 2, 16), 2 * kHour,
     utc(2026, 4, 7, 10)},
    {"a holiday itself", office_of_england(), &kUtc, utc(2026, 12, 25, 12), kHour,
     utc(2026, 12, 29, 10)},
    // 18:30 of Kolkata is 13:00 UTC; the office there opens at 3:30 UTC
    {"evening in India", office(), &kIndia, utc(2026, 11, 18, 13), kHour, utc(2026, 11, 19, 4, 30)},
    // the same instant is morning in New York: 8:00, and the office opens at 14:00 UTC
    {"morning in New York", office(), &kNewYork, utc(2026, 11, 18, 13), kHour,
     utc(2026, 11, 18, 15)},
    // Friday 16:00 UTC is Friday 21:30 in Kolkata: on Monday, from 3:30 UTC
    {"a rep in another zone", office(), &kIndia, utc(2026, 11, 20, 16), 15 * kMinute,
     utc(2026, 11, 23, 3, 45)},
    // Friday 16:30 CET is 15:30 UTC; on Monday the office opens at 7:00 UTC
    {"clocks go forward at the weekend", office(), &kBerlin, utc(2026, 3, 27, 15, 30), kHour,
     utc(2026, 3, 30, 7, 30)},
    // Friday 16:30 CEST is 14:30 UTC; on Monday it opens at 8:00 UTC
    {"clocks go back at the weekend", office(), &kBerlin, utc(2026, 10, 23, 14, 30), kHour,
     utc(2026, 10, 26, 8, 30)},
    // from 0:00 (23:00 UTC) two hours to 2:00, which is 3:00: 1:00 UTC, and one more
    {"through the hour left out", daily(0, core::kMicrosPerDay), &kBerlin, utc(2026, 3, 28, 23),
     3 * kHour, utc(2026, 3, 29, 2)},
    // Saturday 22:00 to 6:00 has seven hours: 21:00 UTC to 4:00 UTC
    {"a night with an hour less", daily(22 * kHour, 6 * kHour), &kBerlin, utc(2026, 3, 28, 21),
     7 * kHour, utc(2026, 3, 29, 4)},
    {"and what is left of it", daily(22 * kHour, 6 * kHour), &kBerlin, utc(2026, 3, 28, 21),
     8 * kHour, utc(2026, 3, 29, 21)},
    // Saturday 22:00 CEST is 20:00 UTC, Sunday 6:00 CET is 5:00 UTC: nine hours
    {"a night with an hour more", daily(22 * kHour, 6 * kHour), &kBerlin, utc(2026, 10, 24, 20),
     9 * kHour, utc(2026, 10, 25, 5)},
    // from 2:00 to 3:00, shown twice: 0:00 to 2:00 UTC
    {"the hour shown twice", daily(2 * kHour, 3 * kHour), &kBerlin, utc(2026, 10, 24, 12),
     90 * kMinute, utc(2026, 10, 25, 1, 30)},
    // from 2:30 to 4:00 on March 29: 3:00 to 4:00 CEST, 1:00 to 2:00 UTC
    {"opens in the hour left out", daily(2 * kHour + 30 * kMinute, 4 * kHour), &kBerlin,
     utc(2026, 3, 28, 12), 30 * kMinute, utc(2026, 3, 29, 1, 30)},
    {"New York goes forward", office(), &kNewYork, utc(2026, 3, 6, 21, 30), kHour,
     utc(2026, 3, 9, 13, 30)},
    {"over midnight", nights(), &kUtc, utc(2026, 11, 18, 23), 2 * kHour, utc(2026, 11, 19, 1)},
    {"after midnight", nights(), &kUtc, utc(2026, 11, 19, 5), 2 * kHour, utc(2026, 11, 19, 23)},
    {"the night of Friday ends on Saturday", nights(), &kUtc, utc(2026, 11, 21, 5), 2 * kHour,
     utc(2026, 11, 23, 23)},
    {"never closed", daily(0, core::kMicrosPerDay), &kUtc, utc(2026, 11, 18, 23), 50 * kHour,
     utc(2026, 11, 21, 1)},
};

TEST(DueTime, ByHand) {
    for (const Case& c : kByHand)
        EXPECT_EQ(due(c.calendar, *c.zone, c.start, c.duration), c.due) << c.what;
}

TEST(DueTime, Never) {
    EXPECT_EQ(due({}, kUtc, utc(2026, 1, 1), kHour), INT64_MAX); // no hours at all
    EXPECT_EQ(due(office(), kUtc, utc(2026, 1, 1), kHour, utc(2026, 1, 1)), INT64_MAX);
    // the last of it is not before the end
    EXPECT_EQ(due(office(), kUtc, utc(2026, 11, 18, 16), kHour, utc(2026, 11, 18, 17)),
              utc(2026, 11, 18, 17));
    EXPECT_EQ(due(office(), kUtc, utc(2026, 11, 18, 16), kHour, utc(2026, 11, 18, 16, 59)),
              INT64_MAX);
}

TEST(DueTime, AgreesWithAModelMinuteByMinute) {
    const char* soak = std::getenv("LEADROUTE_SOAK");
    std::mt19937 random(20261122);
    auto below = [&](int n) { return static_cast<int>(random() % n); };
    for (int round = 0; round < 300 * (soak ? std::atoi(soak) : 1); round++) {
        Calendar calendar;
        for (int i = below(4); i >= 0; i--)
            calendar.spans.push_back(
                {1 + below(7), below(96) * 15 * kMinute, below(97) * 15 * kMinute});
        int32_t middle = kChanges[below(static_cast<int>(kChanges.size()))];
        for (int32_t d = middle - 4; d < middle + 60; d++)
            if (below(5) == 0)
                calendar.holidays.push_back(d);
        const Zone& zone = *kZones[below(kZoneCount)];
        int64_t start = (middle - 3) * core::kMicrosPerDay + below(3 * 1440) * kMinute;
        int64_t wanted = (1 + below(below(3) == 0 ? 15000 : 600)) * kMinute;
        int64_t end = start + 70 * core::kMicrosPerDay, expected = INT64_MAX, worked = 0;
        for (int64_t t = start; t < end; t += kMinute) {
            if (!model(calendar, zone, t))
                continue;
            worked += kMinute;
            if (worked == wanted) {
                expected = t + kMinute;
                break;
            }
        }
        ASSERT_EQ(due(calendar, zone, start, wanted, end), expected) << round;
    }
}

} // namespace
} // namespace leadroute::test
