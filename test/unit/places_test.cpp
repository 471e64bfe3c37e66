// Distances against published ones and against the haversine formula.
#include "places.h"

#include <gtest/gtest.h>

#include <random>

namespace leadroute::test {
namespace {

using namespace core;

double between(double longitude, double latitude, double other_longitude, double other_latitude) {
    return kilometres(
        chord2(spot_of(longitude, latitude), spot_of(other_longitude, other_latitude)));
}

TEST(Places, KnownDistances) {
    // along the equator and a meridian: degrees of 111.195 km
    EXPECT_NEAR(between(0, 0, 1, 0), 111.195, 0.001);
    EXPECT_NEAR(between(10, 20, 10, 21), 111.195, 0.001);
    EXPECT_NEAR(between(0, 0, 180, 0), 20015.115, 0.001);
    EXPECT_NEAR(between(0, 90, 77, -90), 20015.115, 0.001);
    // airports, by great circle: JFK to LHR, BNA to LAX
    EXPECT_NEAR(between(-73.7789, 40.6398, -0.4614, 51.4706), 5540, 15);
    EXPECT_NEAR(between(-86.67, 36.12, -118.40, 33.94), 2887, 2);
}

TEST(Places, TheDateLineAndThePolesAreNoBorders) {
    EXPECT_NEAR(between(180, 10, -180, 10), 0, 1e-6);
    EXPECT_NEAR(between(179.5, 0, -179.5, 0), between(-0.5, 0, 0.5, 0), 1e-6);
    EXPECT_NEAR(between(0, 90, 123, 90), 0, 1e-6);
}

TEST(Places, HaversineSaysTheSame) {
    std::mt19937_64 engine(5);
    std::uniform_real_distribution<double> part(-1, 1);
    constexpr double radian = 3.14159265358979323846 / 180;
    for (int i = 0; i < 10000; i++) {
        double scale = i % 2 == 0 ? 1 : 1e-4; // far and near
        double lon = 180 * part(engine), lat = 80 * part(engine);
        double other_lon = std::fmax(-180, std::fmin(180, lon + 90 * scale * part(engine)));
        double other_lat = lat + 10 * scale * part(engine);
        double a = std::sin((other_lat - lat) * radian / 2);
        double b = std::sin((other_lon - lon) * radian / 2);
        double h = a * a + std::cos(lat * radian) * std::cos(other_lat * radian) * b * b;
        double expected = 2 * 6371.0088 * std::asin(std::sqrt(std::fmin(1, h)));
        ASSERT_NEAR(between(lon, lat, other_lon, other_lat), expected, 1e-6 + expected * 1e-9);
    }
}

TEST(Places, NowhereIsNoDistance) {
    for (Spot spot :
         {spot_of(181, 0), spot_of(0, -90.1), spot_of(NAN, 0), spot_of(0, INFINITY), nowhere()}) {
        EXPECT_FALSE(is_somewhere(spot));
        EXPECT_EQ(kilometres(chord2(spot, spot_of(1, 1))), -1);
    }
    EXPECT_TRUE(is_somewhere(spot_of(180, 90)));
}

TEST(Places, LessThanAMetreIsTheSame) {
    Spot here = spot_of(12, 48);
    double far = chord2(here, spot_of(13, 48));
    EXPECT_TRUE(as_far(far, chord2(here, spot_of(13.000005, 48))));
    EXPECT_FALSE(as_far(far, chord2(here, spot_of(13.00005, 48))));
    EXPECT_TRUE(as_far(chord2(here, here), chord2(here, spot_of(12.000005, 48))));
}

} // namespace
} // namespace leadroute::test
