// The index gives every rule that a lead may match, in order; a plain scan says which those are.
#include "predicates.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

namespace leadroute::test {
namespace {

using namespace core;

TEST(RuleIndex, FractionsAreOrdered) {
    double inf = std::numeric_limits<double>::infinity();
    double nan = std::nan("");
    std::vector<double> sorted = {-inf, -1e300, -2.5, -1, -5e-324, 0, 5e-324, 1, 2.5, 1e300, inf};
    for (std::size_t i = 1; i < sorted.size(); i++)
        EXPECT_LT(ordered(sorted[i - 1]), ordered(sorted[i]));
    EXPECT_EQ(ordered(-0.0), ordered(0.0));
    EXPECT_EQ(ordered(nan), ordered(-nan));
    EXPECT_GT(ordered(nan), ordered(inf));
    EXPECT_EQ(ordered(5e-324), ordered(0.0) + 1);
    EXPECT_EQ(ordered(-5e-324), ordered(0.0) - 1);
}

constexpr int kSlots = 6; // 0 to 2 numbers, 3 to 5 texts

struct World {
    std::mt19937 random;

    int below(int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); }

    std::string text() {
        std::string made;
        for (int n = below(5); n > 0; n--)
            made += static_cast<char>('a' + below(3));
        return made;
    }
    std::int64_t number() {
        switch (below(20)) {
        case 0:
            return INT64_MIN;
        case 1:
            return INT64_MAX;
        default:
            return below(60) - 30;
        }
    }
    AtomSpec atom() {
        int slot = below(kSlots);
        if (below(8) == 0)
            return is_null(slot, below(2) == 0);
        if (slot < 3) {
            if (below(2) == 0) {
                std::int64_t lo = number(), hi = number();
                if (below(4) == 0)
                    lo = INT64_MIN;
                return between(slot, lo, hi);
            }
            std::vector<std::int64_t> list;
            for (int n = below(3) == 0 ? below(40) : 1; n > 0; n--)
                list.push_back(number());
            std::sort(list.begin(), list.end());
            list.erase(std::unique(list.begin(), list.end()), list.end());
            return in(slot, list);
        }
        if (below(3) == 0)
            return begins(slot, below(30) == 0 ? std::string(60, 'a') : text());
        std::vector<std::string> list;
        for (int n = below(3) == 0 ? below(40) : 1; n > 0; n--)
            list.push_back(text());
        return in(slot, list);
    }
    RuleSpec rule() {
        RuleSpec made;
        for (int n = below(4) == 0 ? below(4) : 1; n > 0; n--) {
            AlternativeSpec one;
            for (int k = below(10) == 0 ? 0 : 1 + below(4); k > 0; k--)
                one.atoms.push_back(atom());
            one.exact = below(3) > 0;
            made.push_back(one);
        }
        return made;
    }
    Value value(int slot, std::string* text_of) {
        int dice = below(40);
        if (dice < 6)
            return null_value();
        if (dice == 6)
            return unknown_value();
        if (slot < 3) {
            Value made = number_value(number());
            if (dice == 7 && made.lo > INT64_MIN && made.lo < INT64_MAX) {
                made.lo--;
                made.hi++;
            }
            return made;
        }
        *text_of = dice == 8 ? std::string(70, 'a') : text();
        return text_value(text_of->data(), static_cast<std::uint32_t>(text_of->size()));
    }
};

TEST(RuleIndex, GivesWhatAScanFinds) {
    bool soak = std::getenv("LEADROUTE_SOAK") != nullptr;
    for (unsigned seed = 1; seed <= (soak ? 400U : 40U); seed++) {
        SCOPED_TRACE(seed);
        World world = {std::mt19937(seed)};
        Predicates rules;
        for (int n = seed % 4 == 0 ? 1500 : world.below(80); n > 0; n--)
            rules.add(world.rule());
        const void* index = rules.index();
        ASSERT_TRUE(rules.fence_stands());
        for (int lead = 0; lead < 200; lead++) {
            Value values[kSlots];
            std::string texts[kSlots];
            for (int slot = 0; slot < kSlots; slot++)
                values[slot] = world.value(slot, &texts[slot]);
            Probe probe;
            probe.start(index, values);
            std::int64_t found = probe.next(), last = -1;
            for (std::size_t i = 0; i < rules.size(); i++) {
                bool given = found == static_cast<std::int64_t>(i);
                if (evaluate(rules[i], values) != Verdict::no) {
                    ASSERT_TRUE(given) << "rule " << i << " is missing for lead " << lead;
                }
                if (given) {
                    last = found;
                    found = probe.next();
                    ASSERT_TRUE(found == -1 || found > last);
                }
            }
            ASSERT_EQ(found, -1);
        }
    }
}

TEST(RuleIndex, FewRulesAreMetOfMany) {
    Predicates rules;
    World world = {std::mt19937(7)};
    for (int i = 0; i < 20000; i++) {
        std::string pincode = std::to_string(100000 + i);
        std::int64_t lo = i * 10;
        switch (i % 4) {
        case 0:
            rules.add({{{in(3, std::vector<std::string>{pincode})}}});
            break;
        case 1: // a hundred pairs of values, told apart by the range
            rules.add({{{in(0, std::vector<std::int64_t>{i % 10}),
                         in(1, std::vector<std::int64_t>{i / 10 % 10}), between(2, lo, lo + 9)}}});
            break;
        case 2:
            rules.add({{{between(2, lo, lo + 9)}}});
            break;
        default:
            rules.add({{{begins(4, pincode)}}});
        }
    }
    const void* index = rules.index();
    std::int64_t met = 0;
    for (int lead = 0; lead < 1000; lead++) {
        std::string pincode = std::to_string(100000 + world.below(20000));
        std::string more = std::to_string(100000 + world.below(20000)) + "x";
        Value values[] = {number_value(world.below(10)), number_value(world.below(10)),
                          number_value(world.below(200000)),
                          text_value(pincode.data(), static_cast<std::uint32_t>(pincode.size())),
                          text_value(more.data(), static_cast<std::uint32_t>(more.size()))};
        Probe probe;
        for (probe.start(index, values); probe.next() >= 0;)
            met++;
    }
    EXPECT_LT(met, 2000);
}

TEST(RuleIndex, NoRules) {
    Predicates rules;
    Value values[kSlots] = {};
    Probe probe;
    probe.start(rules.index(), values);
    EXPECT_EQ(probe.next(), -1);
}

} // namespace
} // namespace leadroute::test
