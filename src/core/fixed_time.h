// Arithmetic of the fair queue's fixed-point numbers; see fair_queue.h for what is exact and what
// is rounded.
#pragma once

#include "fair_queue.h"

#include <algorithm>
#include <cmath>

namespace leadroute::core {

using Fixed = __int128;

// Units per whole of virtual time, and of weights.
constexpr long double kTimeUnit = 0x1p64L;
constexpr long double kWeightUnit = 0x1p80L;
constexpr int kGridShift = 24;   // tags are compared in units of 2^-40
constexpr int kMarginShift = 20; // a turn that starts so little before a lead has not started
constexpr double kMaxDeficit = 1e12;
constexpr double kBalance = 1; // turns that the active may be owed, or owe, before it shifts starts

inline Fixed round_to_fixed(long double value) noexcept {
    return static_cast<Fixed>(value + (value < 0 ? -0.5L : 0.5L));
}

inline double sane_weight(double weight) noexcept {
    if (!(weight >= kMinWeight)) // also NaN
        return kMinWeight;
    return std::min(weight, kMaxWeight);
}

inline double sane_deficit(double deficit) noexcept {
    if (std::isnan(deficit))
        return 0;
    return std::clamp(deficit, -kMaxDeficit, kMaxDeficit);
}

inline Fixed weight_to_sum(double weight) noexcept {
    return static_cast<Fixed>(weight * kWeightUnit);
}

inline double sum_to_double(Fixed sum) noexcept {
    return static_cast<double>(static_cast<long double>(sum) / kWeightUnit);
}

// Virtual time that one turn takes of members who weigh so much together.
inline Fixed step_of(Fixed sum) noexcept {
    return sum > 0 ? round_to_fixed(kWeightUnit / static_cast<long double>(sum) * kTimeUnit) : 0;
}

// Virtual time that so many turns take. The same arguments give the same result, so that what is
// taken from the others can be given back to the last bit.
inline Fixed turns_to_time(double turns, Fixed step) noexcept {
    return round_to_fixed(turns * static_cast<long double>(step));
}

inline double time_to_turns(Fixed time, double weight) noexcept {
    return static_cast<double>(static_cast<long double>(time) * weight / kTimeUnit);
}

inline Fixed grid(Fixed time) noexcept {
    return (time + (Fixed{1} << (kGridShift - 1))) >> kGridShift;
}

} // namespace leadroute::core
