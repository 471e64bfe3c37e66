// A set of members that does not change: |received - due| < 1 for each at every prefix, ties in
// their order, and the same picks as the slow model. What is due is computed from the weights here,
// in whole numbers where the weights are.
#include "queues.h"

#include <gtest/gtest.h>

#include <numeric>

namespace leadroute::test {
namespace {

using Ints = std::vector<int64_t>;

std::vector<double> as_doubles(const Ints& weights, double scale = 1) {
    std::vector<double> out;
    for (int64_t weight : weights)
        out.push_back(static_cast<double>(weight) * scale);
    return out;
}

// Gives `leads` leads; the weights the queue works with may be scaled, the shares may not change.
void expect_within_one_turn(const Ints& weights, double scale, int64_t leads) {
    Pool pool(as_doubles(weights, scale));
    int64_t sum = std::accumulate(weights.begin(), weights.end(), int64_t{0});
    Ints received(weights.size());
    for (int64_t lead = 1; lead <= leads; lead++) {
        int picked = pool.give();
        ASSERT_GE(picked, 0);
        received[static_cast<size_t>(picked)]++;
        for (size_t i = 0; i < weights.size(); i++)
            ASSERT_LT(std::abs(received[i] * sum - lead * weights[i]), sum)
                << "lead " << lead << ", member " << i << " of " << weights.size();
    }
    ASSERT_TRUE(pool.sound());
}

Ints random_ints(Random& random, int count, int most) {
    Ints weights;
    for (int i = 0; i < count; i++)
        weights.push_back(1 + random.below(most));
    return weights;
}

TEST(StaticSet, KnownWeightsStayWithinOneTurnExactly) {
    const std::vector<Ints> sets = {
        {1},       {1, 1},          {1, 1, 1},       {7, 2, 1},        {1, 2},
        {3, 5, 7}, {1000000, 1, 1}, {1, 1, 1, 1, 5}, {100, 1, 99, 50}, {999, 1000, 1001},
    };
    for (const Ints& weights : sets)
        for (double scale : {1.0, 0.5, 1e-3, 1.0 / 3})
            expect_within_one_turn(weights, scale, 5000);
}

TEST(StaticSet, RandomWholeWeightsStayWithinOneTurnExactly) {
    Random random(1);
    for (int round = 0; round < rounds(120); round++) {
        int count = 1 + random.below(round % 10 == 0 ? 100 : 12);
        int most = round % 3 == 0 ? 5 : 1000;
        expect_within_one_turn(random_ints(random, count, most), 1, 20000 / count);
    }
}

// Turns that start exactly at the coming lead's virtual time come up all the time; over many
// leads, rounding must not let one of them in.
TEST(StaticSet, LongRunsStayWithinOneTurnExactly) {
    expect_within_one_turn({1, 1, 1}, 1, rounds(500000));
    expect_within_one_turn({7, 2, 1}, 1.0 / 7, rounds(500000));
    expect_within_one_turn({3, 5, 7, 11}, 0.01, rounds(500000));
    expect_within_one_turn({1000000, 3, 999999}, 1, rounds(500000));
}

double largest_deviation_of_shares(const std::vector<double>& weights, int leads) {
    Pool pool(weights);
    long double sum = std::accumulate(weights.begin(), weights.end(), 0.0L);
    std::vector<int64_t> received(weights.size());
    long double largest = 0;
    for (int lead = 1; lead <= leads; lead++) {
        received[static_cast<size_t>(pool.give())]++;
        for (size_t i = 0; i < weights.size(); i++) {
            long double due = static_cast<long double>(weights[i]) * lead / sum;
            largest = std::max(largest, std::fabs(static_cast<long double>(received[i]) - due));
        }
    }
    return static_cast<double>(largest);
}

TEST(StaticSet, RandomRealWeightsStayWithinOneTurn) {
    Random random(2);
    for (int round = 0; round < rounds(150); round++) {
        int count = 2 + random.below(round % 10 == 0 ? 99 : 10);
        double reach = round % 2 == 0 ? 1e3 : 1e6;
        auto weights = random_weights(random, count, 1 / reach, reach);
        ASSERT_LT(largest_deviation_of_shares(weights, 40000 / count), 1.0) << "round " << round;
    }
}

// The largest weights allowed: the margin that keeps rounding out is visible, and as small as the
// header says.
TEST(StaticSet, HugeSumsOfWeightsStayWithinOneTurnAndAMargin) {
    Random random(3);
    for (int round = 0; round < rounds(5); round++) {
        auto weights = random_weights(random, 300, 1e5, 1e6);
        ASSERT_LT(largest_deviation_of_shares(weights, 10000), 1 + 0x1p-19);
    }
}

// Each lead is rounded by up to a unit, the same way each time; what that adds up to is put right
// now and then.
TEST(StaticSet, RoundingOfLeadsDoesNotAddUp) {
    Random random(7);
    Pool pool(random_weights(random, 2000, 9e5, 1e6));
    double largest = 0;
    for (int lead = 0; lead < 300000; lead++) {
        pool.give();
        if (lead % 1000 == 0)
            largest = std::max(largest, std::fabs(pool.sum_of_deficits()));
    }
    EXPECT_LT(largest, 1e-7);
}

TEST(StaticSet, DeficitIsDueMinusReceived) {
    Random random(4);
    auto weights = random_weights(random, 20, 0.1, 50);
    Pool pool(weights);
    double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
    std::vector<int> received(weights.size());
    for (int lead = 1; lead <= 3000; lead++) {
        received[static_cast<size_t>(pool.give())]++;
        for (int i = 0; i < pool.size(); i++) {
            size_t k = static_cast<size_t>(i);
            ASSERT_NEAR(pool.fair.deficit(i), weights[k] * lead / sum - received[k], 1e-9);
        }
    }
}

TEST(StaticSet, EqualMembersTakeTurnsById) {
    for (int count : {1, 2, 3, 7, 64, 1000}) {
        Pool pool(std::vector<double>(static_cast<size_t>(count), 1.0 / 3));
        for (int lead = 0; lead < 5 * count; lead++)
            ASSERT_EQ(pool.give(), lead % count) << count;
    }
}

// Equal claims: never served before served, then the lower id, wherever the member is stored.
TEST(StaticSet, TiesGoToTheEarliestLastTurnThenTheLowestId) {
    Pool pool({1, 1, 1}, false);
    pool.fair.add(0, 30, 1);
    pool.fair.add(1, 20, 1);
    pool.fair.add(2, 10, 1);
    for (int i = 0; i < 3; i++)
        pool.fair.join(i, 0);
    EXPECT_EQ(pool.give(), 2);
    EXPECT_EQ(pool.give(), 1);
    // The lead of id 20 is taken back: it had its turn later than 30 and 10 had theirs.
    pool.fair.give_back(1, 1);
    EXPECT_EQ(pool.give(), 0);
    EXPECT_EQ(pool.give(), 1);
    EXPECT_EQ(pool.give(), 2);
}

// Members of 2 and of 1 have the same deadline at the end of each round. By the tie rule the one
// that waited longer goes first, although its tags are sums of other numbers.
TEST(StaticSet, DeadlinesThatAreEqualByTheWeightsAreTies) {
    for (double scale : {1.0, 1.0 / 3, 0.7, 1e-3}) {
        Pool pool({7 * scale, 2 * scale, 1 * scale});
        SlowQueue slow({7, 2, 1});
        for (int i = 0; i < 3; i++)
            slow.join(i, 0);
        for (int lead = 0; lead < 2000; lead++) {
            int expected = slow.next();
            slow.charge(expected);
            ASSERT_EQ(pool.give(), expected) << "lead " << lead << ", scale " << scale;
        }
    }
}

TEST(StaticSet, PicksAreThoseOfTheSlowModel) {
    Random random(5);
    for (int round = 0; round < rounds(100); round++) {
        int count = 1 + random.below(30);
        auto weights = round % 2 == 0 ? as_doubles(random_ints(random, count, 9))
                                      : random_weights(random, count, 1e-3, 1e3);
        Pool pool(weights);
        SlowQueue slow(weights);
        for (int i = 0; i < count; i++)
            slow.join(i, 0);
        for (int lead = 0; lead < 1000; lead++) {
            int expected = slow.next();
            slow.charge(expected);
            ASSERT_EQ(pool.give(), expected) << "round " << round << ", lead " << lead;
        }
    }
}

TEST(StaticSet, NextChargesNothing) {
    Pool pool({7, 2, 1});
    for (int lead = 0; lead < 100; lead++) {
        int first = pool.fair.next();
        ASSERT_EQ(pool.fair.next(), first);
        ASSERT_EQ(pool.queue.turns, static_cast<uint64_t>(lead));
        pool.fair.charge(first);
    }
}

TEST(StaticSet, UpcomingStartsWithTheNextAndNamesEachOnce) {
    Random random(6);
    for (int round = 0; round < rounds(200); round++) {
        int count = 1 + random.below(60);
        Pool pool(random_weights(random, count, 0.1, 10));
        for (int lead = random.below(100); lead > 0; lead--)
            pool.give();
        int32_t out[FairQueue::kMaxUpcoming];
        int max = 1 + random.below(FairQueue::kMaxUpcoming);
        int found = pool.fair.upcoming(out, max);
        ASSERT_EQ(found, std::min(max, count));
        ASSERT_EQ(out[0], pool.fair.next());
        std::sort(out, out + found);
        ASSERT_EQ(std::adjacent_find(out, out + found), out + found);
        ASSERT_GE(out[0], 0);
        ASSERT_LT(out[found - 1], count);
    }
}

TEST(StaticSet, UpcomingOfEqualMembersIsTheirOrder) {
    Pool pool(std::vector<double>(10, 1));
    for (int lead = 0; lead < 13; lead++)
        pool.give();
    int32_t out[4];
    ASSERT_EQ(pool.fair.upcoming(out, 4), 4);
    for (int k = 0; k < 4; k++)
        EXPECT_EQ(out[k], 3 + k);
}

TEST(StaticSet, AnEmptyQueueHasNobody) {
    Pool none({});
    int32_t out[1];
    EXPECT_EQ(none.fair.next(), -1);
    EXPECT_EQ(none.fair.upcoming(out, 1), 0);
    Pool parked({1, 2}, false);
    EXPECT_EQ(parked.fair.next(), -1);
    parked.fair.charge(0); // not active: nothing happens
    EXPECT_EQ(parked.queue.turns, 0u);
}

TEST(StaticSet, WeightsOutOfRangeAreTakenAsTheBound) {
    Pool pool({0, -5, std::nan(""), 1e9, 1e-9});
    EXPECT_EQ(pool.member(0).weight, core::kMinWeight);
    EXPECT_EQ(pool.member(1).weight, core::kMinWeight);
    EXPECT_EQ(pool.member(2).weight, core::kMinWeight);
    EXPECT_EQ(pool.member(3).weight, core::kMaxWeight);
    EXPECT_EQ(pool.member(4).weight, core::kMinWeight);
    for (int lead = 0; lead < 1000; lead++)
        ASSERT_GE(pool.give(), 0);
}

// The server's allocators align to 8 bytes.
static_assert(alignof(core::Member) == 8 && alignof(core::Queue) == 8);

} // namespace
} // namespace leadroute::test
