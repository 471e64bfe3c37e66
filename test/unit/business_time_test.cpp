// Business time against known dates, on the days when clocks change, and against a model that asks
// for each minute what the clock on the wall shows. Public holidays: date-holidays 3.37.0 (CC
// BY-SA).
#include "calendars.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <random>

namespace leadroute::test {
namespace {

using core::HoursSpan;
using core::Offset;
using core::Window;

std::vector<Window> windows(const Calendar& calendar, const std::vector<Offset>& zone, int64_t from,
                            int64_t to) {
    auto room = core::windows_room(calendar.week(), static_cast<int32_t>(zone.size()), from, to);
    // of the exact size, so that AddressSanitizer sees any access beyond
    std::unique_ptr<Window[]> out(new Window[room]);
    int32_t count = core::open_windows(calendar.week(), zone.data(),
                                       static_cast<int32_t>(zone.size()), from, to, out.get());
    return {out.get(), out.get() + count};
}

std::vector<std::pair<int64_t, int64_t>> pairs(const std::vector<Window>& windows) {
    std::vector<std::pair<int64_t, int64_t>> out;
    for (const Window& w : windows)
        out.emplace_back(w.from, w.to);
    return out;
}
using Pairs = std::vector<std::pair<int64_t, int64_t>>;

int64_t open_time(const std::vector<Window>& windows) {
    int64_t sum = 0;
    for (const Window& w : windows)
        sum += w.to - w.from;
    return sum;
}

TEST(BusinessTime, AWeekInTheOffice) {
    auto week = windows(office(), kUtc, utc(2026, 11, 16), utc(2026, 11, 23)); // Monday to Sunday
    ASSERT_EQ(week.size(), 5U);
    EXPECT_EQ(pairs(week).front(), std::make_pair(utc(2026, 11, 16, 9), utc(2026, 11, 16, 17)));
    EXPECT_EQ(pairs(week).back(), std::make_pair(utc(2026, 11, 20, 9), utc(2026, 11, 20, 17)));
    // the hours of India begin at 3:30 UTC
    EXPECT_EQ(windows(office(), kIndia, utc(2026, 11, 16), utc(2026, 11, 17))[0].from,
              utc(2026, 11, 16, 3, 30));
    // only what lies within
    EXPECT_EQ(pairs(windows(office(), kUtc, utc(2026, 11, 16, 12), utc(2026, 11, 17, 10))),
              (Pairs{{utc(2026, 11, 16, 12), utc(2026, 11, 16, 17)},
                     {utc(2026, 11, 17, 9), utc(2026, 11, 17, 10)}}));
    EXPECT_TRUE(windows(office(), kUtc, utc(2026, 11, 21), utc(2026, 11, 23)).empty());
    EXPECT_TRUE(windows(office(), kUtc, utc(2026, 11, 20), utc(2026, 11, 20)).empty());
    EXPECT_TRUE(windows({}, kUtc, utc(2026, 11, 1), utc(2026, 12, 1)).empty());
}

TEST(BusinessTime, WorkingDaysOf2026) {
    Calendar us = office();
    us.holidays = {day(2026, 1, 1),   day(2026, 1, 19),  day(2026, 2, 16),  day(2026, 5, 25),
                   day(2026, 6, 19),  day(2026, 7, 3),   day(2026, 7, 4),   day(2026, 9, 7),
                   day(2026, 10, 12), day(2026, 11, 11), day(2026, 11, 26), day(2026, 12, 25)};
    auto from = utc(2026, 1, 1, 5), to = utc(2027, 1, 1, 5); // the year of New York
    auto open = windows(us, kNewYork, from, to);
    EXPECT_EQ(open.size(), 250U);
    EXPECT_EQ(open_time(open), 250 * 8 * kHour);
    Calendar england = office();
    england.holidays = {day(2026, 1, 1),   day(2026, 4, 3),   day(2026, 4, 6),
                        day(2026, 5, 4),   day(2026, 5, 25),  day(2026, 8, 31),
                        day(2026, 12, 25), day(2026, 12, 26), day(2026, 12, 28)};
    EXPECT_EQ(windows(england, kUtc, utc(2026, 1, 1), utc(2027, 1, 1)).size(), 253U);
    // after Christmas Eve the next working day is the 29th
    auto year = windows(england, kUtc, utc(2026, 1, 1), utc(2027, 1, 1));
    auto count = static_cast<int32_t>(year.size());
    EXPECT_EQ(core::next_open(year.data(), count, utc(2026, 12, 24, 17)), utc(2026, 12, 29, 9));
    EXPECT_EQ(core::next_open(year.data(), count, utc(2026, 12, 24, 16, 59)),
              utc(2026, 12, 24, 16, 59));
    EXPECT_EQ(core::add_open_time(year.data(), count, utc(2026, 12, 24, 16), 2 * kHour),
              utc(2026, 12, 29, 10));
    EXPECT_EQ(core::add_open_time(year.data(), count, utc(2026, 12, 24, 16), kHour),
              utc(2026, 12, 24, 17));
    EXPECT_EQ(core::add_open_time(year.data(), count, utc(2026, 12, 24, 16), 0),
              utc(2026, 12, 24, 16));
    EXPECT_EQ(core::add_open_time(year.data(), count, utc(2026, 12, 31, 16), 2 * kHour), INT64_MAX);
    EXPECT_EQ(
        core::open_time_between(year.data(), count, utc(2026, 12, 24, 16), utc(2026, 12, 29, 10)),
        2 * kHour);
    EXPECT_EQ(core::open_time_between(year.data(), count, utc(2026, 12, 25), utc(2026, 12, 28)), 0);
    EXPECT_EQ(core::open_time_between(year.data(), count, utc(2026, 12, 29), utc(2026, 12, 28)), 0);
}

TEST(BusinessTime, ClocksGoForward) {
    // Berlin, March 29 2026: from 2:00 to 3:00, at 1:00 UTC. The day has 23 hours.
    auto from = utc(2026, 3, 28, 23), to = utc(2026, 3, 29, 22);
    EXPECT_EQ(open_time(windows(daily(0, core::kMicrosPerDay), kBerlin, from, to)), 23 * kHour);
    // the office opens an hour sooner by UTC than the day before
    auto weekend =
        windows(daily(9 * kHour, 17 * kHour), kBerlin, utc(2026, 3, 28), utc(2026, 3, 30));
    EXPECT_EQ(pairs(weekend), (Pairs{{utc(2026, 3, 28, 8), utc(2026, 3, 28, 16)},
                                     {utc(2026, 3, 29, 7), utc(2026, 3, 29, 15)}}));
    // hours within the one left out are not worked; those that begin or end in it are cut
    EXPECT_TRUE(windows(daily(2 * kHour, 3 * kHour), kBerlin, from, to).empty());
    EXPECT_EQ(pairs(windows(daily(2 * kHour + 30 * kMinute, 4 * kHour), kBerlin, from, to)),
              (Pairs{{utc(2026, 3, 29, 1), utc(2026, 3, 29, 2)}}));
    EXPECT_EQ(pairs(windows(daily(kHour, 2 * kHour + 30 * kMinute), kBerlin, from, to)),
              (Pairs{{utc(2026, 3, 29, 0), utc(2026, 3, 29, 1)}}));
    // a night shift has an hour less
    EXPECT_EQ(open_time(windows(daily(22 * kHour, 6 * kHour), kBerlin, utc(2026, 3, 28, 12),
                                utc(2026, 3, 29, 12))),
              7 * kHour);
}

TEST(BusinessTime, ClocksGoBack) {
    // Berlin, October 25 2026: from 3:00 to 2:00, at 1:00 UTC. The day has 25 hours.
    auto from = utc(2026, 10, 24, 22), to = utc(2026, 10, 25, 23);
    EXPECT_EQ(pairs(windows(daily(0, core::kMicrosPerDay), kBerlin, from, to)),
              (Pairs{{from, to}}));
    EXPECT_EQ(open_time(windows(daily(22 * kHour, 6 * kHour), kBerlin, utc(2026, 10, 24, 12),
                                utc(2026, 10, 25, 12))),
              9 * kHour);
    // the hour shown twice is worked twice, also in part
    EXPECT_EQ(pairs(windows(daily(2 * kHour, 3 * kHour), kBerlin, from, to)),
              (Pairs{{utc(2026, 10, 25, 0), utc(2026, 10, 25, 2)}}));
    EXPECT_EQ(pairs(windows(daily(kHour, 2 * kHour + 30 * kMinute), kBerlin, from, to)),
              (Pairs{{utc(2026, 10, 24, 23), utc(2026, 10, 25, 0, 30)},
                     {utc(2026, 10, 25, 1), utc(2026, 10, 25, 1, 30)}}));
    // the other way round in New York, on November 1 at 6:00 UTC
    EXPECT_EQ(
        pairs(windows(daily(9 * kHour, 17 * kHour), kNewYork, utc(2026, 10, 31), utc(2026, 11, 2))),
        (Pairs{{utc(2026, 10, 31, 13), utc(2026, 10, 31, 21)},
               {utc(2026, 11, 1, 14), utc(2026, 11, 1, 22)}}));
    // Cairo sets back at midnight: the last hour of Thursday comes twice
    EXPECT_EQ(pairs(windows({{{4, 23 * kHour, core::kMicrosPerDay}}, {}}, kCairo, utc(2026, 10, 28),
                            utc(2026, 11, 1))),
              (Pairs{{utc(2026, 10, 29, 20), utc(2026, 10, 29, 22)}}));
}

TEST(BusinessTime, OverMidnight) {
    // Friday 20:00 to 4:00, and from 2:00 on Saturday
    Calendar club = {{{5, 20 * kHour, 4 * kHour}, {6, 2 * kHour, 5 * kHour}}, {}};
    auto from = utc(2026, 11, 19), to = utc(2026, 11, 23);
    EXPECT_EQ(pairs(windows(club, kUtc, from, to)),
              (Pairs{{utc(2026, 11, 20, 20), utc(2026, 11, 21, 5)}}));
    // a holiday on Friday takes all that begins on it, one on Saturday only what begins on that
    club.holidays = {day(2026, 11, 20)};
    EXPECT_EQ(pairs(windows(club, kUtc, from, to)),
              (Pairs{{utc(2026, 11, 21, 2), utc(2026, 11, 21, 5)}}));
    club.holidays = {day(2026, 11, 21)};
    EXPECT_EQ(pairs(windows(club, kUtc, from, to)),
              (Pairs{{utc(2026, 11, 20, 20), utc(2026, 11, 21, 4)}}));
    // what begins before the time asked about is seen
    EXPECT_EQ(pairs(windows(club, kUtc, utc(2026, 11, 21), to)),
              (Pairs{{utc(2026, 11, 21), utc(2026, 11, 21, 4)}}));
    // 0:00 is the end of the day too
    EXPECT_EQ(pairs(windows({{{5, 22 * kHour, 0}}, {}}, kUtc, from, to)),
              (Pairs{{utc(2026, 11, 20, 22), utc(2026, 11, 21)}}));
}

TEST(BusinessTime, Around) {
    std::vector<Window> list = {{30, 40}, {10, 20}, {20, 25}, {12, 15}, {50, 50}};
    auto count = core::merge_windows(list.data(), 5);
    list.resize(count);
    ASSERT_EQ(pairs(list), (Pairs{{10, 25}, {30, 40}}));
    struct {
        int64_t t;
        bool open;
        int64_t before, after, next;
    } expected[] = {{9, false, INT64_MIN, 10, 10},
                    {10, true, 10, 25, 10},
                    {24, true, 10, 25, 24},
                    {25, false, 25, 30, 30},
                    {29, false, 25, 30, 30},
                    {30, true, 30, 40, 30},
                    {40, false, 40, INT64_MAX, INT64_MAX}};
    for (const auto& e : expected) {
        int64_t before, after;
        core::changes_around(list.data(), count, e.t, &before, &after);
        EXPECT_EQ(core::is_open(list.data(), count, e.t), e.open) << e.t;
        EXPECT_EQ(before, e.before) << e.t;
        EXPECT_EQ(after, e.after) << e.t;
        EXPECT_EQ(core::next_open(list.data(), count, e.t), e.next) << e.t;
    }
    int64_t before, after;
    core::changes_around(nullptr, 0, 7, &before, &after);
    EXPECT_EQ(before, INT64_MIN);
    EXPECT_EQ(after, INT64_MAX);
    EXPECT_FALSE(core::is_open(nullptr, 0, 7));
}

TEST(BusinessTime, AgreesWithAModelMinuteByMinute) {
    const char* soak = std::getenv("LEADROUTE_SOAK");
    std::mt19937 random(20260329);
    auto below = [&](int n) { return static_cast<int>(random() % n); };
    for (int round = 0; round < 600 * (soak ? std::atoi(soak) : 1); round++) {
        Calendar calendar;
        for (int i = below(8); i >= 0; i--)
            calendar.spans.push_back(
                {1 + below(7), below(96) * 15 * kMinute, below(97) * 15 * kMinute});
        int32_t middle = kChanges[below(static_cast<int>(kChanges.size()))];
        for (int32_t d = middle - 4; d < middle + 4; d++)
            if (below(4) == 0)
                calendar.holidays.push_back(d);
        const std::vector<Offset>& zone = *kZones[below(kZoneCount)];
        int64_t from = (middle - 4) * core::kMicrosPerDay + below(1440) * kMinute;
        int64_t to = (middle + 4) * core::kMicrosPerDay + below(1440) * kMinute;
        auto open = windows(calendar, zone, from, to);
        auto count = static_cast<int32_t>(open.size());
        int64_t since = from + below(8 * 1440) * kMinute, sum = 0;
        for (int64_t t = from; t < to; t += kMinute) {
            bool expected = model(calendar, zone, t);
            ASSERT_EQ(core::is_open(open.data(), count, t), expected) << round << ": " << t;
            if (!expected || t < since)
                continue;
            // ends of minutes are multiples of 15: it stays open for the minute
            sum += kMinute;
            ASSERT_EQ(core::add_open_time(open.data(), count, since, sum), t + kMinute);
        }
        ASSERT_EQ(core::open_time_between(open.data(), count, since, to), sum);
        for (int32_t i = 1; i < count; i++)
            ASSERT_GT(open[i].from, open[i - 1].to);
    }
}

} // namespace
} // namespace leadroute::test
