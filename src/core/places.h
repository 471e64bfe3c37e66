// Where reps and leads are: points on a sphere of the earth's mean radius. A great-circle distance
// grows with the straight line through the ball, whose square three multiplications give; so points
// are kept as unit vectors. Off by up to 0.5 % against the ellipsoid, and by under a millimetre by
// rounding.
#pragma once

#include <cmath>

namespace leadroute::core {

struct Spot {
    double x, y, z; // NaN: nowhere
};

// In degrees. Nowhere when not on the globe: beyond 180 and 90 degrees, or not a number.
Spot spot_of(double longitude, double latitude) noexcept;
inline Spot nowhere() noexcept {
    return {NAN, NAN, NAN};
}
inline bool is_somewhere(const Spot& spot) noexcept {
    return spot.x == spot.x;
}

// Square of the straight line between two; NaN when one is nowhere. For comparisons.
inline double chord2(const Spot& a, const Spot& b) noexcept {
    double x = a.x - b.x, y = a.y - b.y, z = a.z - b.z;
    return x * x + y * y + z * z;
}
// The distance along the ground of points with this chord2(); -1 for NaN.
double kilometres(double chord2) noexcept;
// Are two distances the same for a person: less than a metre apart?
bool as_far(double chord2, double other) noexcept;

} // namespace leadroute::core
