// Leads that only some of the members may take: due accounting is exact, and the picks are those of
// the slow model, by either of the two ways in which virtual time is moved.
#include "queues.h"

#include <gtest/gtest.h>

namespace leadroute::test {
namespace {

std::vector<int32_t> random_subset(Random& random, const std::vector<int>& of, double chance) {
    std::vector<int32_t> subset;
    for (int i : of)
        if (random.chance(chance))
            subset.push_back(i);
    if (subset.empty())
        subset.push_back(of[static_cast<size_t>(random.below(static_cast<int>(of.size())))]);
    std::shuffle(subset.begin(), subset.end(), std::mt19937(7));
    return subset;
}

int give_among(Pool& pool, const std::vector<int32_t>& eligible) {
    int32_t count = static_cast<int32_t>(eligible.size());
    int i = pool.fair.next_among(eligible.data(), count);
    pool.fair.charge_among(i, eligible.data(), count);
    return i;
}

void compare_with_slow_model(Random& random, int count, double reach, double chance) {
    auto weights = reach == 1 ? std::vector<double>(size_t(count), 1.0)
                              : random_weights(random, count, 1 / reach, reach);
    Pool pool(weights);
    SlowQueue slow(weights);
    std::vector<long double> balance(weights.size());
    for (int i = 0; i < count; i++)
        slow.join(i, 0);
    for (int lead = 0; lead < 400; lead++) {
        std::vector<int32_t> eligible = random_subset(random, pool.active_members(), chance);
        std::vector<int> among(eligible.begin(), eligible.end());
        int expected = slow.next_among(among);
        slow.charge_among(expected, among);
        long double sum = slow.active_weight(among);
        for (int i : among)
            balance[size_t(i)] += weights[size_t(i)] / sum;
        balance[size_t(expected)] -= 1;
        ASSERT_EQ(give_among(pool, eligible), expected) << "lead " << lead << " of " << count;
        ASSERT_TRUE(pool.sound());
        if (random.chance(0.05)) {
            int i = random.below(count);
            if (pool.active(i) && pool.active_count() > 1) {
                pool.fair.park(i);
                slow.park(i);
            } else if (!pool.active(i)) {
                pool.fair.join(i, pool.member(i).parked_deficit);
                slow.join(i, slow.at(i).deficit);
            }
        }
    }
    for (int i = 0; i < count; i++)
        ASSERT_NEAR(pool.fair.deficit(i), static_cast<double>(balance[size_t(i)]), 1e-9);
}

TEST(Among, PicksAndAccountsAreThoseOfTheSlowModel) {
    Random random(3000);
    for (int round = 0; round < rounds(60); round++)
        for (double chance : {0.1, 0.4, 0.6, 0.95})
            compare_with_slow_model(random, 2 + random.below(25),
                                    std::vector<double>{1, 3, 31}[size_t(round) % 3], chance);
}

TEST(Among, ALeadForAllIsAnOrdinaryLead) {
    Random random(3100);
    auto weights = random_weights(random, 20, 0.1, 10);
    Pool pool(weights), plain(weights);
    std::vector<int32_t> all;
    for (int i = 19; i >= 0; i--)
        all.push_back(i);
    for (int lead = 0; lead < 2000; lead++)
        ASSERT_EQ(give_among(pool, all), plain.give());
    EXPECT_TRUE(pool.lane.now == plain.lane.now);
}

TEST(Among, TheOthersAreDueNothing) {
    for (const std::vector<int32_t>& eligible :
         {std::vector<int32_t>{1}, {0, 2}, {0, 1, 2, 3}, {4, 0, 3, 1}}) {
        Pool pool({1, 2, 3, 4, 5});
        for (int lead = 0; lead < 7; lead++)
            pool.give();
        std::vector<double> before;
        for (int i = 0; i < 5; i++)
            before.push_back(pool.fair.deficit(i));
        int picked = give_among(pool, eligible);
        ASSERT_NE(std::find(eligible.begin(), eligible.end(), picked), eligible.end());
        double sum = 0;
        for (int32_t i : eligible)
            sum += pool.member(i).weight;
        for (int i = 0; i < 5; i++) {
            bool in = std::find(eligible.begin(), eligible.end(), i) != eligible.end();
            double due = in ? pool.member(i).weight / sum - (i == picked) : 0;
            EXPECT_NEAR(pool.fair.deficit(i), before[size_t(i)] + due, 1e-12);
        }
        EXPECT_EQ(pool.queue.turns, 8u);
    }
}

// Two of three may take every other lead, all three the rest: measured deviations with random
// eligibility are of the size that coming and going gives.
TEST(Among, DeviationsStayBounded) {
    for (double reach : {1.0, 3.0, 31.0}) {
        Random random(3200);
        double worst = 0;
        for (int round = 0; round < rounds(30); round++) {
            int count = 2 + random.below(12);
            Pool pool(reach == 1 ? std::vector<double>(size_t(count), 1.0)
                                 : random_weights(random, count, 1 / reach, reach));
            double chance = 0.1 + 0.2 * (round % 5);
            for (int lead = 0; lead < 1000; lead++) {
                give_among(pool, random_subset(random, pool.active_members(), chance));
                worst = std::max(worst, pool.largest_deviation());
            }
        }
        EXPECT_LT(worst, reach == 1 ? 2 : 3.5) << "reach " << reach;
    }
}

// Fixed groups (a skill each) with unequal traffic.
TEST(Among, FixedGroupsStayBounded) {
    Random random(3300);
    Pool pool({1, 1, 1, 2});
    const std::vector<std::vector<int32_t>> groups = {{0, 1}, {1, 2}, {2, 3}, {3}, {0, 1, 2, 3}};
    double worst = 0;
    for (int lead = 0; lead < rounds(20000); lead++) {
        double dice = random.weight(1, 100); // the first groups far more often than the last
        give_among(pool, groups[std::min<size_t>(4, static_cast<size_t>(dice / 10))]);
        worst = std::max(worst, pool.largest_deviation());
    }
    EXPECT_LT(worst, 2);
    EXPECT_NEAR(pool.sum_of_deficits(), 0, 1e-9);
}

TEST(Among, ParkedMembersAreLeftOut) {
    Pool pool({1, 1, 1, 1});
    pool.fair.park(2);
    double deficit = pool.fair.deficit(2);
    const int32_t eligible[] = {2, 3};
    EXPECT_EQ(pool.fair.next_among(eligible, 2), 3);
    pool.fair.charge_among(3, eligible, 2);
    EXPECT_NEAR(pool.fair.deficit(3), 0, 1e-12); // it was the only one to share the lead
    EXPECT_EQ(pool.fair.deficit(2), deficit);
    EXPECT_TRUE(pool.sound());
    EXPECT_EQ(pool.fair.next_among(eligible, 1), -1);
    EXPECT_EQ(pool.fair.next_among(eligible, 0), -1);
    pool.fair.charge_among(2, eligible, 1);
    EXPECT_TRUE(pool.sound());
}

} // namespace
} // namespace leadroute::test
