// Distances on the globe; see places.h.
#include "places.h"

#include <algorithm>

namespace leadroute::core {

namespace {

constexpr double kRadius = 6371.0088; // km, mean of the WGS 84 ellipsoid
constexpr double kRadian = 0.017453292519943295;
constexpr double kSame = 0.001; // km

} // namespace

Spot spot_of(double longitude, double latitude) noexcept {
    if (!(std::fabs(longitude) <= 180 && std::fabs(latitude) <= 90))
        return nowhere();
    double across = std::cos(latitude * kRadian);
    return {across * std::cos(longitude * kRadian), across * std::sin(longitude * kRadian),
            std::sin(latitude * kRadian)};
}

double kilometres(double chord2) noexcept {
    if (std::isnan(chord2))
        return -1;
    return 2 * kRadius * std::asin(std::min(1.0, std::sqrt(chord2) / 2));
}

bool as_far(double chord2, double other) noexcept {
    return std::fabs(kilometres(chord2) - kilometres(other)) < kSame;
}

} // namespace leadroute::core
