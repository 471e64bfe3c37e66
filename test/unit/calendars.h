// What tests of business time share: days, zones, calendars, and the rule of business_time.h word
// by word.
#pragma once

#include "business_time.h"

#include <chrono>
#include <vector>

namespace leadroute::test {

constexpr int64_t kMinute = 60 * core::kMicrosPerSecond;
constexpr int64_t kHour = 60 * kMinute;

inline int32_t day(int year, unsigned month, unsigned of_month) {
    using namespace std::chrono;
    auto epoch = sys_days{
        year_month_day{std::chrono::year{2000}, std::chrono::month{1}, std::chrono::day{1}}};
    auto date = sys_days{year_month_day{std::chrono::year{year}, std::chrono::month{month},
                                        std::chrono::day{of_month}}};
    return static_cast<int32_t>((date - epoch).count());
}

inline int64_t utc(int year, unsigned month, unsigned of_month, int64_t hour = 0,
                   int64_t minute = 0) {
    return day(year, month, of_month) * core::kMicrosPerDay + hour * kHour + minute * kMinute;
}

inline const std::vector<core::Offset> kUtc = {{utc(2025, 1, 1), 0}};
inline const std::vector<core::Offset> kIndia = {{utc(2025, 1, 1), 19800}};
inline const std::vector<core::Offset> kBerlin = {
    {utc(2025, 10, 26, 1), 3600}, {utc(2026, 3, 29, 1), 7200}, {utc(2026, 10, 25, 1), 3600}};
inline const std::vector<core::Offset> kNewYork = {
    {utc(2025, 11, 2, 6), -18000}, {utc(2026, 3, 8, 7), -14400}, {utc(2026, 11, 1, 6), -18000}};
// The clock goes from 24:00 of the last Thursday back to 23:00, as in Cairo.
inline const std::vector<core::Offset> kCairo = {
    {utc(2025, 10, 30, 21), 7200}, {utc(2026, 4, 23, 22), 10800}, {utc(2026, 10, 29, 21), 7200}};

inline const std::vector<core::Offset> kKathmandu = {{utc(2025, 1, 1), 20700}};
// By half an hour only.
inline const std::vector<core::Offset> kLordHowe = {{utc(2025, 10, 4, 15, 30), 39600},
                                                    {utc(2026, 4, 4, 15), 37800},
                                                    {utc(2026, 10, 3, 15, 30), 39600}};
// By two hours.
inline const std::vector<core::Offset> kTroll = {
    {utc(2025, 10, 26, 1), 0}, {utc(2026, 3, 29, 1), 7200}, {utc(2026, 10, 25, 1), 0}};
// After Thursday, December 29, 2011, comes Saturday.
inline const std::vector<core::Offset> kApia = {
    {utc(2011, 4, 2, 14), -39600}, {utc(2011, 9, 24, 14), -36000}, {utc(2011, 12, 30, 10), 50400}};
inline const std::vector<core::Offset>* const kZones[] = {
    &kUtc, &kIndia, &kBerlin, &kNewYork, &kCairo, &kKathmandu, &kLordHowe, &kTroll, &kApia};
constexpr int kZoneCount = 9;
// A day in June, and those near which clocks of these zones change.
inline const std::vector<int32_t> kChanges = {
    day(2026, 6, 10), day(2026, 3, 8),   day(2026, 3, 29),  day(2026, 4, 5),
    day(2026, 4, 24), day(2026, 10, 4),  day(2026, 10, 25), day(2026, 10, 30),
    day(2026, 11, 1), day(2011, 12, 30), day(2011, 9, 25)};

struct Calendar {
    std::vector<core::HoursSpan> spans;
    std::vector<int32_t> holidays;
    core::WorkWeek week() const {
        return {spans.data(), static_cast<int32_t>(spans.size()), holidays.data(),
                static_cast<int32_t>(holidays.size())};
    }
};

inline Calendar office() {
    Calendar calendar;
    for (int32_t weekday = 1; weekday <= 5; weekday++)
        calendar.spans.push_back({weekday, 9 * kHour, 17 * kHour});
    return calendar;
}

inline Calendar daily(int64_t opens, int64_t closes) {
    Calendar calendar;
    for (int32_t weekday = 1; weekday <= 7; weekday++)
        calendar.spans.push_back({weekday, opens, closes});
    return calendar;
}

// The rule of business_time.h, word by word.
inline bool model(const Calendar& calendar, const std::vector<core::Offset>& zone, int64_t t) {
    int64_t offset = zone.front().seconds;
    for (const core::Offset& o : zone)
        if (o.at <= t)
            offset = o.seconds;
    auto wall = std::chrono::microseconds(t + offset * core::kMicrosPerSecond);
    auto today = std::chrono::floor<std::chrono::days>(wall);
    int64_t time = (wall - today).count();
    auto began = [&](const core::HoursSpan& span, int64_t of_day) {
        for (int32_t holiday : calendar.holidays)
            if (holiday == of_day)
                return false;
        auto date = std::chrono::sys_days{std::chrono::days(of_day + 10957)};
        return span.weekday == static_cast<int32_t>(std::chrono::weekday{date}.iso_encoding());
    };
    for (const core::HoursSpan& span : calendar.spans) {
        bool over = span.closes < span.opens;
        int64_t end = over ? core::kMicrosPerDay : span.closes;
        if (time >= span.opens && time < end && began(span, today.count()))
            return true;
        if (over && time < span.closes && began(span, today.count() - 1))
            return true;
    }
    return false;
}

} // namespace leadroute::test
