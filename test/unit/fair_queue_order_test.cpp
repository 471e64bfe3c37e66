// The orders besides fair: who is served against a plain reading of each, and the accounting of
// turns, which stays that of fair turns within each lane.
#include "queues.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>

namespace leadroute::test {
namespace {

using core::Lane;
using core::Order;

// A queue whose members stand in lanes: member i in lanes[i]. Starts active.
class LanePool {
  public:
    LanePool(Order order, const std::vector<double>& weights, const std::vector<int>& lane_of,
             int lane_count)
        : lanes(size_t(lane_count)), members(weights.size()), ready(weights.size()),
          waiting(weights.size()),
          fair(&queue, lanes.data(), members.data(), ready.data(), waiting.data()) {
        fair.reset(size(), order, lane_count);
        for (int k = 0; k < lane_count; k++)
            fair.set_lane(k, 10 * k,
                          static_cast<int32_t>(std::count(lane_of.begin(), lane_of.end(), k)));
        for (int i = 0; i < size(); i++)
            fair.add(i, i + 1, weights[size_t(i)], lane_of[size_t(i)]);
        for (int i = 0; i < size(); i++)
            fair.join(i, 0);
    }
    LanePool(const LanePool&) = delete;

    int size() const { return static_cast<int>(members.size()); }
    const core::Member& member(int i) const { return members[size_t(i)]; }
    bool active(int i) const { return member(i).place != Place::parked; }
    std::vector<int> active_in(int lane) const {
        std::vector<int> found;
        for (int i = 0; i < size(); i++)
            if (active(i) && member(i).lane == lane)
                found.push_back(i);
        return found;
    }
    // Each active member is once in a heap of its own lane.
    bool sound() const {
        int active_count = 0;
        for (int i = 0; i < size(); i++) {
            const core::Member& m = member(i);
            if (m.place == Place::parked)
                continue;
            active_count++;
            const Lane& lane = lanes[size_t(m.lane)];
            const std::vector<int32_t>& heap = m.place == Place::ready ? ready : waiting;
            int count = m.place == Place::ready ? lane.ready_count : lane.waiting_count;
            if (m.heap_index < 0 || m.heap_index >= count ||
                heap[size_t(lane.first + m.heap_index)] != i)
                return false;
        }
        int in_heaps = 0;
        for (const Lane& lane : lanes)
            in_heaps += lane.ready_count + lane.waiting_count;
        return active_count == queue.active_count && in_heaps == active_count;
    }

    core::Queue queue{};
    std::vector<Lane> lanes;
    std::vector<core::Member> members;
    std::vector<int32_t> ready, waiting;
    FairQueue fair;
};

std::vector<int> random_lanes(Random& random, int members, int lanes) {
    std::vector<int> lane_of;
    for (int i = 0; i < members; i++)
        lane_of.push_back(random.below(lanes));
    return lane_of;
}

// --- least ---

bool waits_longer(const LanePool& pool, int a, int b) {
    return pool.member(a).last_turn != pool.member(b).last_turn
               ? pool.member(a).last_turn < pool.member(b).last_turn
               : a < b;
}

int least_of(const LanePool& pool, const std::vector<int>& among) {
    int found = -1;
    for (int i : among)
        if (found < 0 || pool.member(i).load < pool.member(found).load ||
            (pool.member(i).load == pool.member(found).load && waits_longer(pool, i, found)))
            found = i;
    return found;
}

TEST(Least, ServesTheLeastLoadAndThenTheLongestWaiting) {
    Random random(11);
    for (int round = 0; round < rounds(60); round++) {
        int count = 1 + random.below(20);
        LanePool pool(Order::least, std::vector<double>(size_t(count), 1.0),
                      std::vector<int>(size_t(count), 0), 1);
        for (int step = 0; step < 500; step++) {
            int i = random.below(count);
            if (random.chance(0.1))
                pool.active(i) ? pool.fair.park(i)
                               : pool.fair.join(i, pool.member(i).parked_deficit);
            if (random.chance(0.3))
                pool.fair.set_load(i, random.below(6));
            std::vector<int> active = pool.active_in(0);
            int expected = least_of(pool, active);
            ASSERT_EQ(pool.fair.next(), expected);
            int32_t soon[3];
            int found = pool.fair.upcoming(soon, 3);
            ASSERT_EQ(found, std::min<int>(3, static_cast<int>(active.size())));
            if (expected < 0)
                continue;
            ASSERT_EQ(soon[0], expected);
            pool.fair.charge(expected);
            pool.fair.set_load(expected, pool.member(expected).load + 1);
            if (random.chance(0.3)) {
                pool.fair.give_back(expected, 1);
                pool.fair.set_load(expected, pool.member(expected).load - 1);
            }
            ASSERT_TRUE(pool.sound());
        }
    }
}

TEST(Least, AmongSomeServesTheLeastOfThem) {
    Random random(12);
    for (int round = 0; round < rounds(60); round++) {
        int count = 2 + random.below(40);
        LanePool pool(Order::least, std::vector<double>(size_t(count), 1.0),
                      std::vector<int>(size_t(count), 0), 1);
        for (int step = 0; step < 200; step++) {
            std::vector<int32_t> some;
            for (int i = 0; i < count; i++)
                if (random.chance(0.4))
                    some.push_back(i);
            int i = pool.fair.next_among(some.data(), int32_t(some.size()));
            ASSERT_EQ(i, least_of(pool, std::vector<int>(some.begin(), some.end())));
            if (i < 0)
                continue;
            pool.fair.charge_among(i, some.data(), int32_t(some.size()));
            pool.fair.set_load(i, random.below(9));
            ASSERT_TRUE(pool.sound());
        }
    }
}

// What is due is what fair turns would be due: the deficits are comparable after a change of order.
TEST(Least, CountsTurnsAsFairOrderDoes) {
    Random random(13);
    LanePool pool(Order::least, {1, 1, 1, 1}, {0, 0, 0, 0}, 1);
    std::vector<int> received(4);
    for (int lead = 1; lead <= 3000; lead++) {
        pool.fair.set_load(random.below(4), random.below(5));
        int i = pool.fair.next();
        pool.fair.charge(i);
        received[size_t(i)]++;
        for (int k = 0; k < 4; k++)
            ASSERT_NEAR(pool.fair.deficit(k), lead / 4.0 - received[size_t(k)], 1e-9);
    }
}

// --- tiers ---

// One slow model per tier, which knows the members of that tier alone.
struct SlowTiers {
    SlowTiers(const std::vector<double>& weights, const std::vector<int>& lane_of, int lanes)
        : lane_of(lane_of) {
        for (int k = 0; k < lanes; k++)
            tiers.push_back(std::make_unique<SlowQueue>(weights));
        for (size_t k = 0; k < tiers.size(); k++)
            for (size_t i = 0; i < weights.size(); i++)
                if (lane_of[i] == int(k))
                    tiers[k]->join(int(i), 0);
                else
                    tiers[k]->members[i].weight = 0;
    }
    SlowQueue& of(int i) { return *tiers[size_t(lane_of[size_t(i)])]; }
    SlowQueue* first(const std::vector<int>& among) {
        int lowest = int(tiers.size());
        for (int i : among)
            lowest = std::min(lowest, lane_of[size_t(i)]);
        return lowest == int(tiers.size()) ? nullptr : tiers[size_t(lowest)].get();
    }
    std::vector<int> active() {
        std::vector<int> found;
        for (size_t i = 0; i < lane_of.size(); i++)
            if (of(int(i)).members[i].active)
                found.push_back(int(i));
        return found;
    }
    std::vector<int> of_tier(const SlowQueue* tier, const std::vector<int>& among) {
        std::vector<int> found;
        for (int i : among)
            if (&of(i) == tier)
                found.push_back(i);
        return found;
    }

    std::vector<int> lane_of;
    std::vector<std::unique_ptr<SlowQueue>> tiers;
};

void toggle(Random& random, LanePool& pool, SlowTiers& slow) {
    int i = random.below(pool.size());
    if (pool.active(i)) {
        pool.fair.park(i);
        slow.of(i).park(i);
    } else {
        pool.fair.join(i, pool.member(i).parked_deficit);
        slow.of(i).join(i, slow.of(i).at(i).deficit);
    }
}

void compare_tiers(Random& random, int count, int lanes, double away, double among_chance) {
    auto weights = random.chance(0.5) ? std::vector<double>(size_t(count), 1.0)
                                      : random_weights(random, count, 0.2, 5);
    std::vector<int> lane_of = random_lanes(random, count, lanes);
    LanePool pool(Order::tiers, weights, lane_of, lanes);
    SlowTiers slow(weights, lane_of, lanes);
    for (int lead = 0; lead < 300; lead++) {
        if (random.chance(away))
            toggle(random, pool, slow);
        std::vector<int> among = slow.active();
        bool all = !random.chance(among_chance);
        if (!all)
            std::erase_if(among, [&](int) { return random.chance(0.5); });
        SlowQueue* tier = slow.first(among);
        std::vector<int32_t> some(among.begin(), among.end());
        int32_t size = int32_t(some.size());
        int i = all ? pool.fair.next() : pool.fair.next_among(some.data(), size);
        if (tier == nullptr) {
            ASSERT_EQ(i, -1);
            continue;
        }
        std::vector<int> mates = slow.of_tier(tier, among);
        int expected = tier->next_among(mates);
        ASSERT_EQ(i, expected) << "lead " << lead << " of " << count << " in " << lanes;
        tier->charge_among(expected, mates);
        all ? pool.fair.charge(i) : pool.fair.charge_among(i, some.data(), size);
        if (all && random.chance(0.2)) {
            pool.fair.give_back(i, 1);
            tier->give_back(i, 1);
        }
        ASSERT_TRUE(pool.sound());
    }
    for (int i = 0; i < count; i++)
        ASSERT_NEAR(pool.fair.deficit(i), double(slow.of(i).at(i).deficit), 1e-9);
}

TEST(Tiers, ServeTheFirstWithAnybodyByFairTurns) {
    Random random(21);
    for (int round = 0; round < rounds(80); round++)
        compare_tiers(random, 1 + random.below(24), 1 + random.below(4), round % 2 == 0 ? 0 : 0.3,
                      0);
}

TEST(Tiers, ServeTheFirstWithAnybodyAmongSome) {
    Random random(22);
    for (int round = 0; round < rounds(80); round++)
        compare_tiers(random, 2 + random.below(40), 1 + random.below(3), 0.1, 0.7);
}

TEST(Tiers, ALaterTierTakesOnlyWhatTheFirstCannot) {
    LanePool pool(Order::tiers, {1, 1, 1, 1}, {1, 0, 1, 0}, 2);
    std::vector<int> received(4);
    auto give = [&](int leads) {
        for (; leads > 0; leads--) {
            int i = pool.fair.next();
            ASSERT_GE(i, 0);
            pool.fair.charge(i);
            received[size_t(i)]++;
        }
    };
    give(10);
    EXPECT_EQ(received, (std::vector<int>{0, 5, 0, 5}));
    pool.fair.park(1);
    give(3);
    EXPECT_EQ(received, (std::vector<int>{0, 5, 0, 8}));
    pool.fair.park(3);
    give(4);
    EXPECT_EQ(received, (std::vector<int>{2, 5, 2, 8}));
    int32_t soon[4];
    EXPECT_EQ(pool.fair.upcoming(soon, 4), 2);
    pool.fair.join(1, pool.fair.owed(1, CatchUp::none, 0));
    give(2); // it owes nothing for what the second tier gave out, and is owed nothing for it
    EXPECT_EQ(received, (std::vector<int>{2, 7, 2, 8}));
    for (int i : {0, 2})
        EXPECT_NEAR(pool.fair.deficit(i), 0, 1e-12);
    for (int i = 0; i < 4; i++)
        pool.fair.park(i);
    EXPECT_EQ(pool.fair.next(), -1);
}

// --- places ---

TEST(Places, EachIsFairInItselfAndAnyServesTheLongestWaiting) {
    Random random(31);
    for (int round = 0; round < rounds(40); round++) {
        int count = 2 + random.below(20), lanes = 1 + random.below(6);
        std::vector<double> weights(size_t(count), 1.0);
        std::vector<int> lane_of = random_lanes(random, count, lanes);
        LanePool pool(Order::places, weights, lane_of, lanes);
        std::map<int, std::vector<int>> received;
        std::vector<int> turns(size_t(lanes), 0);
        for (int lead = 0; lead < 300; lead++) {
            int lane = random.below(lanes);
            int i = pool.fair.next_in(lane);
            std::vector<int> there = pool.active_in(lane);
            ASSERT_EQ(i < 0, there.empty());
            if (random.chance(0.3)) {
                std::vector<int> all;
                for (int k = 0; k < count; k++)
                    all.push_back(k);
                i = pool.fair.next();
                for (int k : all)
                    ASSERT_FALSE(waits_longer(pool, k, i));
            }
            if (i < 0)
                continue;
            pool.fair.charge(i);
            ASSERT_TRUE(pool.sound());
        }
        for (int lane = 0; lane < lanes; lane++) {
            double sum = 0;
            for (int i : pool.active_in(lane)) {
                sum += pool.fair.deficit(i);
                ASSERT_LT(std::fabs(pool.fair.deficit(i)), 1.001);
            }
            ASSERT_NEAR(sum, 0, 1e-9);
        }
    }
}

TEST(Places, AmongSomeOfOnePlaceAndOfAll) {
    LanePool pool(Order::places, {1, 1, 1, 1, 1}, {0, 1, 1, 1, 0}, 2);
    const std::vector<int32_t> some = {0, 2, 3};
    std::vector<int> received(5);
    for (int lead = 0; lead < 10; lead++) {
        int i = pool.fair.next_in_among(1, some.data(), 3);
        pool.fair.charge_among(i, some.data(), 3);
        received[size_t(i)]++;
    }
    EXPECT_EQ(received, (std::vector<int>{0, 0, 5, 5, 0}));
    EXPECT_NEAR(pool.fair.deficit(1), 0, 1e-12); // could not take them: due nothing
    EXPECT_NEAR(pool.fair.deficit(0), 0, 1e-12); // of another place
    EXPECT_EQ(pool.fair.next_among(some.data(), 3), 0);
    EXPECT_EQ(pool.fair.next(), 0);
    pool.fair.charge(0);
    EXPECT_EQ(pool.fair.next(), 1);
}

// --- several who join at once ---

TEST(Orders, WhoJoinsTogetherIsPaidForByTheOthersAlone) {
    Pool pool({1, 1, 2, 4});
    for (int lead = 0; lead < 16; lead++)
        pool.give();
    pool.fair.park(0);
    pool.fair.park(2);
    for (int i : {0, 2})
        pool.fair.prepay(i, 3 + i);
    for (int i : {0, 2})
        pool.fair.restore(i, 3 + i);
    EXPECT_NEAR(pool.fair.deficit(0), 3, 1e-9);
    EXPECT_NEAR(pool.fair.deficit(2), 5, 1e-9);
    EXPECT_NEAR(pool.fair.deficit(1), -8.0 / 5, 1e-9);
    EXPECT_NEAR(pool.fair.deficit(3), -8.0 * 4 / 5, 1e-9);
    ASSERT_TRUE(pool.sound());
}

// --- a change of order ---

TEST(Orders, DeficitsGoAlong) {
    Random random(41);
    for (Order order : {Order::least, Order::tiers, Order::places}) {
        Pool fair({1, 2, 3, 4});
        for (int lead = 0; lead < 7; lead++)
            fair.give();
        int lanes = order == Order::least ? 1 : 2;
        LanePool other(order, {1, 2, 3, 4}, {0, 0, lanes - 1, lanes - 1}, lanes);
        for (int i = 0; i < 4; i++) {
            other.fair.park(i);
            other.members[size_t(i)].parked_deficit = fair.fair.deficit(i);
        }
        for (int i = 0; i < 4; i++)
            other.fair.restore(i, fair.fair.deficit(i));
        for (int i = 0; i < 4; i++)
            ASSERT_NEAR(other.fair.deficit(i), fair.fair.deficit(i), 1e-9);
        ASSERT_TRUE(other.sound());
    }
}

} // namespace
} // namespace leadroute::test
