// The decision alone: who gets the next lead, and the explanation of it, in pools of several sizes;
// and which rule it matches, among several numbers of rules.
#include "explanation.h"
#include "fair_queue.h"
#include "predicates.h"

#include <benchmark/benchmark.h>
#include <vector>

using namespace leadroute::core;

namespace {

// A pool of `count` members of whom every tenth is eligible, or all.
struct Pool {
    Pool(int32_t count, bool mostly_capped)
        : members(static_cast<size_t>(count)), ready(members.size()), waiting(members.size()),
          queue(&state, &lane, members.data(), ready.data(), waiting.data()) {
        queue.reset(count);
        for (int32_t i = 0; i < count; i++) {
            queue.add(i, i + 1, 1 + i % 3);
            queue.join(i, 0);
        }
        for (int32_t i = 0; mostly_capped && i < count; i++)
            if (i % 10 != 0)
                queue.park(i);
    }

    Queue state{};
    Lane lane{};
    std::vector<Member> members;
    std::vector<int32_t> ready, waiting;
    FairQueue queue;
};

void pick(benchmark::State& state, bool mostly_capped) {
    Pool pool(static_cast<int32_t>(state.range(0)), mostly_capped);
    while (state.KeepRunning()) {
        int32_t i = pool.queue.next();
        pool.queue.charge(i);
        benchmark::DoNotOptimize(i);
    }
}

// What a rolled-back lead costs besides.
void pick_and_give_back(benchmark::State& state) {
    Pool pool(static_cast<int32_t>(state.range(0)), false);
    while (state.KeepRunning()) {
        int32_t i = pool.queue.next();
        pool.queue.charge(i);
        pool.queue.give_back(i, 1);
    }
}

// A member that reaches its cap, and one that comes back.
void park_and_join(benchmark::State& state) {
    Pool pool(static_cast<int32_t>(state.range(0)), false);
    while (state.KeepRunning()) {
        int32_t i = pool.queue.next();
        pool.queue.park(i);
        pool.queue.join(i, pool.members[static_cast<size_t>(i)].parked_deficit);
    }
}

// The next in turn, for the explanation.
void upcoming(benchmark::State& state) {
    Pool pool(static_cast<int32_t>(state.range(0)), false);
    int32_t out[4];
    while (state.KeepRunning()) {
        pool.queue.charge(pool.queue.next());
        benchmark::DoNotOptimize(pool.queue.upcoming(out, 4));
    }
}

void explain(benchmark::State& state) {
    Explanation explanation{};
    explanation.tried_count = 1;
    Tried& tried = explanation.tried[0];
    tried.pool = 7;
    tried.members = 100;
    tried.candidate_count = static_cast<int32_t>(state.range(0));
    for (int32_t i = 0; i < tried.candidate_count; i++)
        tried.candidates[i] = {100 + i, i == 0 ? State::picked : State::turn, 0.25 * i, 0, 0};
    tried.others[static_cast<int>(State::turn)] = 96;
    uint8_t out[kMaxEncoded];
    while (state.KeepRunning()) {
        benchmark::DoNotOptimize(encode(explanation, out));
        benchmark::ClobberMemory();
    }
}

std::string pincode(int i) {
    return std::to_string(110000 + i % 60000);
}

// Of ten rules six ask for a pincode, two for source, region and a range of values, one for a
// range of values alone and one for a beginning of the address.
void match(benchmark::State& state, bool mixed) {
    using namespace leadroute::test;
    int count = static_cast<int>(state.range(0));
    Predicates rules;
    for (int i = 0; i < count; i++) {
        std::int64_t lo = static_cast<std::int64_t>(i) * 7919 % count * 10;
        int kind = mixed ? i % 10 : 0;
        if (kind < 6)
            rules.add({{{in(0, {pincode(i)})}}});
        else if (kind < 8)
            rules.add({{{in(1, {"source" + std::to_string(i % 11)}),
                         in(2, {"region" + std::to_string(i % 31)}), between(3, lo, lo + 99)}}});
        else if (kind == 8)
            rules.add({{{between(3, lo, lo + 9)}}});
        else
            rules.add({{{begins(4, pincode(i) + ' ')}}});
    }
    const void* index = rules.index();
    std::vector<std::string> texts;
    for (int i = 0; i < 4096 * 4; i += 4) {
        texts.push_back(pincode(i * 7));
        texts.push_back("source" + std::to_string(i % 11));
        texts.push_back("region" + std::to_string(i % 31));
        texts.push_back(pincode(i * 13) + " Main Street");
    }
    auto text = [&](std::size_t i) {
        return text_value(texts[i].data(), static_cast<std::uint32_t>(texts[i].size()));
    };
    std::size_t lead = 0;
    while (state.KeepRunning()) {
        std::size_t at = lead++ % 4096;
        Value values[] = {text(at * 4), text(at * 4 + 1), text(at * 4 + 2),
                          number_value(static_cast<std::int64_t>(lead) * 104729 % (count * 10)),
                          text(at * 4 + 3)};
        Probe probe;
        probe.start(index, values);
        std::int64_t found = probe.next();
        while (found >= 0 &&
               evaluate(rules[static_cast<std::size_t>(found)], values) == Verdict::no)
            found = probe.next();
        benchmark::DoNotOptimize(found);
    }
}

} // namespace

BENCHMARK_CAPTURE(match, one_column, false)->Arg(10)->Arg(1000)->Arg(100000);
BENCHMARK_CAPTURE(match, mixed, true)->Arg(10)->Arg(1000)->Arg(100000);
BENCHMARK_CAPTURE(pick, all_eligible, false)->Arg(10)->Arg(100)->Arg(1000)->Arg(10000);
BENCHMARK_CAPTURE(pick, nine_in_ten_capped, true)->Arg(10000);
BENCHMARK(pick_and_give_back)->Arg(10)->Arg(10000);
BENCHMARK(park_and_join)->Arg(10)->Arg(10000);
BENCHMARK(upcoming)->Arg(10)->Arg(10000);
BENCHMARK(explain)->Arg(4)->Arg(16);
