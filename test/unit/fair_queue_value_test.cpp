// Leads that cost what they are worth: the same queue in units of value.
#include "queues.h"

#include <gtest/gtest.h>

namespace leadroute::test {
namespace {

double random_value(Random& random, int kind) {
    switch (kind) {
    case 0:
        return 1 + random.below(100);
    case 1:
        return random.weight(0.01, 1000);
    case 2:
        return random.chance(0.05) ? 100000 : 5 + random.below(10);
    default:
        return random.chance(0.5) ? 51 : 100;
    }
}

TEST(FairQueueValue, StaysWithinTheLargestLeadAtEveryPrefix) {
    Random random(20);
    for (int round = 0; round < rounds(60); round++) {
        Pool pool(std::vector<double>(static_cast<size_t>(2 + random.below(30)), 1));
        double largest = 0;
        for (int lead = 0; lead < 2000; lead++) {
            int64_t extra = core::extra_of(random_value(random, round % 4));
            largest = std::max(largest, core::cost_of(1, extra));
            int i = pool.fair.next(extra);
            pool.fair.charge(i, extra);
            ASSERT_LE(pool.largest_deviation(), largest * (1 + 1e-6)) << round << " " << lead;
        }
        ASSERT_TRUE(pool.sound());
        EXPECT_NEAR(pool.sum_of_deficits(), 0, 1e-4);
    }
}

TEST(FairQueueValue, DeficitsAreValueDueMinusValueReceived) {
    Random random(21);
    Pool pool({1, 2, 5});
    double due[3] = {}, received[3] = {};
    for (int lead = 0; lead < 5000; lead++) {
        int64_t extra = core::extra_of(random_value(random, lead % 4));
        int i = pool.fair.next(extra);
        pool.fair.charge(i, extra);
        received[i] += core::cost_of(1, extra);
        for (int k = 0; k < 3; k++)
            due[k] += core::cost_of(1, extra) * pool.member(k).weight / 8;
    }
    for (int k = 0; k < 3; k++)
        EXPECT_NEAR(pool.fair.deficit(k), due[k] - received[k], 1e-3);
}

TEST(FairQueueValue, WhatIsGivenBackAtOnceIsWhatWasCharged) {
    Random random(22);
    Pool pool({1, 1, 1, 1}), untouched({1, 1, 1, 1});
    for (int round = 0; round < rounds(200); round++) {
        int64_t turns[4] = {}, extras[4] = {};
        for (int lead = 0; lead < 20; lead++) {
            int64_t extra = core::extra_of(random_value(random, round % 4));
            int i = pool.fair.next(extra);
            pool.fair.charge(i, extra);
            turns[i]++;
            extras[i] += extra;
        }
        for (int i = 0; i < 4; i++)
            pool.fair.give_back(i, turns[i], extras[i]);
        for (int i = 0; i < 4; i++) {
            ASSERT_TRUE(pool.member(i).start - pool.lane.now ==
                        untouched.member(i).start - untouched.lane.now);
            ASSERT_TRUE(pool.member(i).finish - pool.member(i).start ==
                        untouched.member(i).finish - untouched.member(i).start);
        }
    }
}

TEST(FairQueueValue, SomeOfTheMembersPayForTheirLeadsAlone) {
    Random random(23);
    Pool pool({1, 1, 1, 1, 1, 1});
    int32_t some[] = {1, 3, 4};
    double largest = 0;
    for (int lead = 0; lead < 3000; lead++) {
        int64_t extra = core::extra_of(random_value(random, 0));
        largest = std::max(largest, core::cost_of(1, extra));
        int i = pool.fair.next_among(some, 3, extra);
        pool.fair.charge_among(i, some, 3, extra);
        ASSERT_LE(pool.largest_deviation(), largest * (1 + 1e-6));
        ASSERT_NEAR(pool.fair.deficit(0), 0, 1e-6);
    }
    EXPECT_TRUE(pool.sound());
}

TEST(FairQueueValue, OfACostOfOneNothingIsDifferent) {
    EXPECT_EQ(core::extra_of(1), 0);
    EXPECT_EQ(core::extra_of(0.0001), core::extra_of(1.0 / 1024));
    EXPECT_EQ(core::extra_of(1e300), core::extra_of(core::kMaxCost));
    EXPECT_DOUBLE_EQ(core::cost_of(1, core::extra_of(1234.5)), 1234.5);
}

} // namespace
} // namespace leadroute::test
