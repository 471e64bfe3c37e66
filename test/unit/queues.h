// What the fair queue's tests share: a queue with memory of its own, a slow model of it that is
// written from the definition of a deficit and knows no virtual time, and seeded randomness.
#pragma once

#include "fair_queue.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <random>
#include <vector>

namespace leadroute::test {

using core::CatchUp;
using core::FairQueue;
using core::Place;

// Rounds of a property test: LEADROUTE_SOAK=100 runs a hundred times as many.
inline int rounds(int normal) {
    const char* soak = std::getenv("LEADROUTE_SOAK");
    int factor = soak ? std::atoi(soak) : 1;
    return normal * std::max(factor, 1);
}

class Random {
  public:
    explicit Random(uint64_t seed) : engine_(seed) {}
    // From 0 to n - 1.
    int below(int n) { return static_cast<int>(engine_() % static_cast<uint64_t>(n)); }
    bool chance(double p) { return static_cast<double>(engine_() >> 11) * 0x1p-53 < p; }
    // Spread evenly over the orders of magnitude.
    double weight(double low, double high) {
        double part = static_cast<double>(engine_() >> 11) * 0x1p-53;
        return low * std::pow(high / low, part);
    }

  private:
    std::mt19937_64 engine_;
};

inline std::vector<double> random_weights(Random& random, int count, double low, double high) {
    std::vector<double> weights;
    for (int i = 0; i < count; i++)
        weights.push_back(random.weight(low, high));
    return weights;
}

// A fair queue and its memory; members get the ids 1, 2, ... and start active.
class Pool {
  public:
    explicit Pool(const std::vector<double>& weights, bool active = true)
        : members(weights.size()), ready(weights.size()), waiting(weights.size()),
          fair(&queue, &lane, members.data(), ready.data(), waiting.data()) {
        fair.reset(static_cast<int32_t>(weights.size()));
        for (int i = 0; i < size(); i++)
            fair.add(i, i + 1, weights[static_cast<size_t>(i)]);
        for (int i = 0; active && i < size(); i++)
            fair.join(i, 0);
    }
    Pool(const Pool&) = delete;

    int size() const { return static_cast<int>(members.size()); }
    const core::Member& member(int i) const { return members[static_cast<size_t>(i)]; }
    bool active(int i) const { return member(i).place != Place::parked; }
    int active_count() const { return queue.active_count; }
    std::vector<int> active_members() const {
        std::vector<int> found;
        for (int i = 0; i < size(); i++)
            if (active(i))
                found.push_back(i);
        return found;
    }
    int give() {
        int i = fair.next();
        fair.charge(i);
        return i;
    }
    double sum_of_deficits() const {
        double sum = 0;
        for (int i = 0; i < size(); i++)
            sum += fair.deficit(i);
        return sum;
    }
    double largest_deviation() const {
        double largest = 0;
        for (int i = 0; i < size(); i++)
            largest = std::max(largest, std::fabs(fair.deficit(i)));
        return largest;
    }
    // Both heaps hold each active member once, in heap order, and the sums are right.
    bool sound() const {
        int seen = 0;
        for (int i = 0; i < size(); i++) {
            const core::Member& m = member(i);
            if (m.place == Place::parked)
                continue;
            const std::vector<int32_t>& heap = m.place == Place::ready ? ready : waiting;
            int count = m.place == Place::ready ? lane.ready_count : lane.waiting_count;
            if (m.heap_index < 0 || m.heap_index >= count ||
                heap[static_cast<size_t>(m.heap_index)] != i)
                return false;
            seen++;
            if (m.heap_index == 0)
                continue;
            const core::Member& parent = member(heap[static_cast<size_t>((m.heap_index - 1) / 2)]);
            core::VirtualTime slack = core::VirtualTime{1} << 24; // the grid of comparisons
            if (m.place == Place::ready && m.finish + slack < parent.finish)
                return false;
            if (m.place == Place::waiting && m.start + slack < parent.start)
                return false;
        }
        return seen == active_count() && seen == lane.ready_count + lane.waiting_count;
    }

    core::Queue queue{};
    core::Lane lane{};
    std::vector<core::Member> members;
    std::vector<int32_t> ready, waiting;
    FairQueue fair;
};

// The same by definition, in O(members) per operation: deficits as plain numbers.
class SlowQueue {
  public:
    struct Member {
        long double weight;
        long double deficit = 0;
        long double due_always = 0; // had it been eligible for every lead
        long double due_at_leaving = 0;
        uint64_t last_turn = 0;
        bool active = false;
    };

    explicit SlowQueue(const std::vector<double>& weights) {
        for (double weight : weights)
            members.push_back({.weight = weight});
    }

    long double active_weight(const std::vector<int>& among) const {
        long double sum = 0;
        for (int i : among)
            sum += at(i).weight;
        return sum;
    }
    std::vector<int> active_members() const {
        std::vector<int> found;
        for (int i = 0; i < static_cast<int>(members.size()); i++)
            if (at(i).active)
                found.push_back(i);
        return found;
    }

    int next() const { return next_among(active_members()); }
    void charge(int i) { charge_among(i, active_members()); }

    // Whoever is due something of the coming lead takes turns by deadline, the time at which it
    // would be due a whole turn; with nobody due anything, whoever is due something first. When
    // the active are owed more than a turn together, or owe it, their shares of what exceeds that
    // do not count.
    int next_among(const std::vector<int>& among) const {
        long double sum = active_weight(among);
        long double all = active_weight(active_members());
        long double owed = 0;
        for (int i : active_members())
            owed += at(i).deficit;
        long double excess = owed > 1 ? owed - 1 : owed < -1 ? owed + 1 : 0;
        int best = -1;
        bool best_started = false;
        for (int i : among) {
            long double counted = at(i).deficit - excess * at(i).weight / all;
            bool started = counted + at(i).weight / sum > kTiny * at(i).weight / sum;
            if (best < 0 || started > best_started ||
                (started == best_started && earlier(i, best, started))) {
                best = i;
                best_started = started;
            }
        }
        return best;
    }
    void charge_among(int picked, const std::vector<int>& among) {
        long double sum = active_weight(among);
        for (int i : among)
            at(i).deficit += at(i).weight / sum;
        for (Member& m : members)
            m.due_always += m.weight / weight_of_all();
        at(picked).deficit -= 1;
        at(picked).last_turn = ++turns_;
    }
    void give_back(int i, int turns) {
        for (Member& m : members)
            m.due_always -= turns * m.weight / weight_of_all();
        std::vector<int> sharing = active_members();
        if (!at(i).active)
            sharing.push_back(i);
        long double sum = active_weight(sharing);
        for (int k : sharing)
            at(k).deficit -= turns * at(k).weight / sum;
        at(i).deficit += turns;
    }
    void park(int i) {
        at(i).active = false;
        at(i).due_at_leaving = at(i).due_always;
    }
    void join(int i, long double deficit) {
        std::vector<int> active = active_members();
        long double sum = active_weight(active);
        at(i).active = true;
        if (active.empty())
            return;
        for (int k : active)
            at(k).deficit -= (deficit - at(i).deficit) * at(k).weight / sum;
        at(i).deficit = deficit;
    }
    long double due_since(int i) const {
        return std::max(0.0L, at(i).due_always - at(i).due_at_leaving);
    }

    Member& at(int i) { return members[static_cast<size_t>(i)]; }
    const Member& at(int i) const { return members[static_cast<size_t>(i)]; }

    std::vector<Member> members;

  private:
    static constexpr long double kTiny = 1e-9L;

    long double weight_of_all() const {
        long double sum = 0;
        for (const Member& m : members)
            sum += m.weight;
        return sum;
    }
    bool earlier(int a, int b, bool started) const {
        const Member &x = at(a), &y = at(b);
        long double x_start = -x.deficit / x.weight, y_start = -y.deficit / y.weight;
        if (!started && std::fabs(x_start - y_start) > kTiny * 1e-3L)
            return x_start < y_start;
        long double x_finish = (1 - x.deficit) / x.weight, y_finish = (1 - y.deficit) / y.weight;
        if (std::fabs(x_finish - y_finish) > kTiny * 1e-3L)
            return x_finish < y_finish;
        if (x.last_turn != y.last_turn)
            return x.last_turn < y.last_turn;
        return a < b;
    }

    uint64_t turns_ = 0;
};

} // namespace leadroute::test
