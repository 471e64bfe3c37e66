// Turns that are given back: an abort is as if its lead had never been, whatever else is in flight
// and whoever was parked meanwhile.
#include "queues.h"

#include <gtest/gtest.h>

#include <numeric>

namespace leadroute::test {
namespace {

// Transactions in flight, each with one lead.
struct Storm {
    Storm(Random& r, Pool& p, int m) : random(r), pool(p), most(m), landed(p.members.size()) {}

    // Starts a transaction, or ends one; those of `target` abort, or else any, by chance.
    void step(double abort_chance, int target) {
        if (static_cast<int>(in_flight.size()) < most && random.chance(0.6)) {
            in_flight.push_back(pool.give());
            in_flight_most = std::max(in_flight_most, in_flight.size());
            return;
        }
        if (in_flight.empty())
            return;
        size_t k = static_cast<size_t>(random.below(static_cast<int>(in_flight.size())));
        int i = in_flight[k];
        in_flight.erase(in_flight.begin() + static_cast<std::ptrdiff_t>(k));
        if (target < 0 ? random.chance(abort_chance) : i == target)
            pool.fair.give_back(i, 1);
        else
            landed[static_cast<size_t>(i)]++;
    }
    void abort_all() {
        for (int i : in_flight)
            pool.fair.give_back(i, 1);
        in_flight.clear();
    }

    Random& random;
    Pool& pool;
    int most;
    std::vector<int64_t> landed;
    std::vector<int> in_flight;
    size_t in_flight_most = 0;
};

// The share of each in all that landed or is in flight, minus its own part of that.
void expect_exact_accounts(const Storm& storm, const std::vector<double>& weights) {
    long double sum = std::accumulate(weights.begin(), weights.end(), 0.0L);
    std::vector<int64_t> received = storm.landed;
    for (int i : storm.in_flight)
        received[static_cast<size_t>(i)]++;
    long double leads = std::accumulate(received.begin(), received.end(), 0.0L);
    for (int i = 0; i < storm.pool.size(); i++) {
        size_t k = static_cast<size_t>(i);
        ASSERT_NEAR(storm.pool.fair.deficit(i),
                    static_cast<double>(weights[k] * leads / sum) - received[k], 1e-7);
    }
}

// By the promise: all within a turn after this many further leads.
int leads_to_recover(const Pool& pool, const std::vector<double>& weights) {
    double sum = std::accumulate(weights.begin(), weights.end(), 0.0), most = 0;
    for (int i = 0; i < pool.size(); i++) {
        double surplus = std::max(0.0, -pool.fair.deficit(i));
        most = std::max(most, std::ceil(surplus * sum / pool.member(i).weight) + pool.size());
    }
    return static_cast<int>(most);
}

void run_storm(uint64_t seed, double reach, int most_in_flight, bool targeted) {
    Random random(seed);
    int count = 1 + random.below(seed % 4 == 0 ? 40 : 8);
    auto weights = reach == 1 ? std::vector<double>(size_t(count), 0.5)
                              : random_weights(random, count, 1 / reach, reach);
    Pool pool(weights);
    Storm storm(random, pool, most_in_flight);
    double abort_chance = random.chance(0.5) ? 0.9 : 0.3;
    int target = targeted ? random.below(count) : -1;
    for (int step = 0; step < 1500; step++) {
        storm.step(abort_chance, target);
        if (random.chance(0.005))
            storm.abort_all();
        ASSERT_LT(pool.largest_deviation(), 1 + static_cast<double>(storm.in_flight_most))
            << "step " << step;
    }
    expect_exact_accounts(storm, weights);
    storm.abort_all();
    expect_exact_accounts(storm, weights);
    ASSERT_TRUE(pool.sound());
    for (int lead = leads_to_recover(pool, weights); lead > 0; lead--)
        pool.give();
    for (int lead = 0; lead < 20 * count + 100; lead++) {
        ASSERT_LT(pool.largest_deviation(), 1) << "after recovery, lead " << lead;
        pool.give();
    }
}

// Weights up to 100 to 1; beyond, recovery by its bound takes too many leads for a test.
TEST(Aborts, StormsStayWithinOneTurnAndThoseInFlightAndPass) {
    for (int round = 0; round < rounds(100); round++)
        for (double reach : {1.0, 3.0, 10.0})
            for (int most : {1, 5, 30, 200})
                run_storm(static_cast<uint64_t>(round), reach, most, round % 2 == 0);
}

TEST(Aborts, ALeadTakenBackAtOnceChangesNothing) {
    Random random(2000);
    for (int round = 0; round < rounds(100); round++) {
        int count = 1 + random.below(20);
        auto weights = random_weights(random, count, 0.01, 100);
        Pool pool(weights), calm(weights);
        for (int lead = 0; lead < 300; lead++) {
            while (random.chance(0.5)) {
                int i = pool.give();
                pool.fair.give_back(i, 1);
            }
            ASSERT_EQ(pool.give(), calm.give());
        }
        ASSERT_TRUE(pool.lane.now == calm.lane.now);
        ASSERT_TRUE(pool.lane.ideal == calm.lane.ideal);
    }
}

TEST(Aborts, ManyTurnsAtOnceAreTheSameAsOneByOne) {
    Pool once({3, 1, 1}), singly({3, 1, 1});
    int64_t turns[3] = {};
    for (int lead = 0; lead < 1000; lead++) {
        turns[once.give()]++;
        singly.give();
    }
    for (int i = 0; i < 3; i++) {
        once.fair.give_back(i, turns[i]);
        for (int64_t k = 0; k < turns[i]; k++)
            singly.fair.give_back(i, 1);
        EXPECT_NEAR(once.fair.deficit(i), singly.fair.deficit(i), 1e-12);
    }
    for (int i = 0; i < 3; i++)
        EXPECT_NEAR(once.fair.deficit(i), 0, 1e-12);
    EXPECT_EQ(once.queue.turns, 1000u); // the order of last turns is not taken back
    // And negative ones charge: a turn that was given elsewhere.
    once.fair.give_back(1, -4);
    EXPECT_NEAR(once.fair.deficit(1), -4 + 0.8, 1e-12);
    EXPECT_NEAR(once.fair.deficit(0), 2.4, 1e-12);
}

// The lead that fills a member's cap parks it; when that lead aborts the member is back as it was.
TEST(Aborts, ACappingLeadThatAbortsLeavesNoTrace) {
    Random random(2100);
    for (int round = 0; round < rounds(300); round++) {
        int count = 1 + random.below(12);
        auto weights = random_weights(random, count, 0.1, 10);
        Pool pool(weights), calm(weights);
        for (int lead = random.below(100); lead > 0; lead--) {
            pool.give();
            calm.give();
        }
        int i = pool.give();
        pool.fair.park(i);
        if (round % 2 == 0) {
            pool.fair.give_back(i, 1);
            pool.fair.join(i, pool.fair.owed(i, round % 3 ? CatchUp::none : CatchUp::full, 0));
        } else {
            pool.fair.join(i, pool.member(i).parked_deficit);
            pool.fair.give_back(i, 1);
        }
        for (int k = 0; k < count; k++)
            ASSERT_NEAR(pool.fair.deficit(k), calm.fair.deficit(k), 1e-12) << "member " << k;
        // Equal claims are settled by the last turn, which is not taken back: then skip.
        bool tie = false;
        for (int k = 0; k < count; k++)
            tie = tie || std::fabs(pool.fair.deficit(k)) < 1e-9;
        for (int lead = 0; !tie && lead < 50; lead++)
            ASSERT_EQ(pool.give(), calm.give()) << "round " << round;
    }
}

// While it is parked others come and go: the sum of all deficits stays zero all the same.
TEST(Aborts, GivingBackToTheParkedKeepsTheBalance) {
    Random random(2200);
    Pool pool(random_weights(random, 15, 0.1, 10));
    SlowQueue slow({});
    for (int i = 0; i < pool.size(); i++) {
        slow.members.push_back({.weight = pool.member(i).weight});
        slow.join(i, 0);
    }
    std::vector<int> in_flight;
    for (int step = 0; step < rounds(20000); step++) {
        int i = random.below(pool.size());
        if (random.chance(0.2) && pool.active(i)) {
            pool.fair.park(i);
            slow.park(i);
        } else if (random.chance(0.2) && !pool.active(i)) {
            pool.fair.join(i, pool.member(i).parked_deficit);
            slow.join(i, slow.at(i).deficit);
        } else if (pool.active_count() > 0 && in_flight.size() < 20) {
            int expected = slow.next();
            slow.charge(expected);
            in_flight.push_back(pool.give());
            ASSERT_EQ(in_flight.back(), expected);
        } else if (!in_flight.empty()) {
            pool.fair.give_back(in_flight.back(), 1);
            slow.give_back(in_flight.back(), 1);
            in_flight.pop_back();
        }
        ASSERT_NEAR(pool.sum_of_deficits(), 0, 1e-9);
    }
    for (int i = 0; i < pool.size(); i++)
        EXPECT_NEAR(pool.fair.deficit(i), static_cast<double>(slow.at(i).deficit), 1e-6);
    EXPECT_TRUE(pool.sound());
}

// Nobody else is there to have shared the lead.
TEST(Aborts, GivingBackToTheOnlyMemberChangesNoDeficit) {
    Pool pool({2});
    pool.give();
    EXPECT_NEAR(pool.fair.deficit(0), 0, 1e-12);
    pool.fair.give_back(0, 1);
    EXPECT_NEAR(pool.fair.deficit(0), 0, 1e-12);
    pool.give();
    pool.fair.park(0);
    pool.fair.give_back(0, 1);
    EXPECT_NEAR(pool.fair.deficit(0), 0, 1e-12);
}

} // namespace
} // namespace leadroute::test
