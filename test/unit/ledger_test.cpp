// The ledger against a plain model (a list of every charged turn), and at the sizes that
// transactions can reach: a million rows, a hundred thousand nested savepoints.
#include "ledger.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <random>
#include <tuple>
#include <vector>

namespace leadroute::test {
namespace {

using core::LedgerKey;
using Turns = std::map<std::tuple<uint32_t, int32_t, int64_t, int32_t>, int64_t>;

std::tuple<uint32_t, int32_t, int64_t, int32_t> parts(const LedgerKey& key) {
    return {key.state, key.pool, key.rep, key.day};
}

// A ledger that grows as a caller is to make it grow. Blocks are of the exact size, so that
// AddressSanitizer sees any access beyond.
class Book {
  public:
    void charge(int level, const LedgerKey& key, int64_t extra = 0) {
        if (ledger.needs_growth())
            grow(std::max(1, ledger.capacity * 2));
        ledger.charge(level, key, extra);
    }
    void grow(int32_t capacity) {
        size_t size = core::Ledger::block_size(capacity);
        std::unique_ptr<uint64_t[]> next(new uint64_t[(size + 7) / 8]);
        void* old = ledger.move_to(next.get(), capacity);
        EXPECT_EQ(old, block_.get());
        block_ = std::move(next);
    }
    Turns drop(int level) {
        Turns dropped;
        ledger.drop_level(level, [&](const LedgerKey& key, int64_t turns, int64_t) {
            dropped[parts(key)] += turns;
        });
        return dropped;
    }
    Turns all() const {
        Turns found;
        ledger.for_each(
            [&](const LedgerKey& key, int64_t turns, int64_t) { found[parts(key)] += turns; });
        return found;
    }

    core::Ledger ledger{};

  private:
    std::unique_ptr<uint64_t[]> block_;
};

LedgerKey key_of(int64_t rep, int32_t pool = 1, uint32_t state = 0, int32_t day = 9000) {
    return {.rep = rep, .state = state, .pool = pool, .day = day, .effect = core::Effect::turn};
}

int64_t total(const Turns& turns) {
    int64_t sum = 0;
    for (const auto& entry : turns)
        sum += entry.second;
    return sum;
}

TEST(Ledger, ANewOneHoldsNothingAndNeedsRoom) {
    core::Ledger ledger{};
    EXPECT_TRUE(ledger.empty());
    EXPECT_TRUE(ledger.needs_growth());
    EXPECT_EQ(ledger.total(), 0);
    EXPECT_FALSE(ledger.uncharge(1, key_of(1), 1));
    ledger.commit_level(2);
    ledger.drop_level(1, [](const LedgerKey&, int64_t, int64_t) { FAIL(); });
    ledger.clear();
    EXPECT_TRUE(ledger.empty());
}

TEST(Ledger, EveryPartOfTheKeyCounts) {
    Book book;
    for (LedgerKey key : {key_of(1), key_of(2), key_of(1, 2), key_of(1, 1, 2), key_of(1, 1, 0, 8),
                          key_of(1), key_of(-1), key_of(1, 0)})
        book.charge(1, key);
    Turns all = book.all();
    EXPECT_EQ(all.size(), 7u);
    EXPECT_EQ(all[parts(key_of(1))], 2);
    EXPECT_EQ(total(all), 8);
    EXPECT_EQ(book.ledger.total(), 8);
}

// Also among keys that share a hash chain.
TEST(Ledger, KeysThatDifferInOnePartAreKeptApart) {
    for (int part = 0; part < 4; part++) {
        Book book;
        for (int round = 0; round < 2; round++)
            for (int32_t k = 0; k < 500; k++)
                book.charge(1, part == 0   ? key_of(k)
                               : part == 1 ? key_of(1, k)
                               : part == 2 ? key_of(1, 1, static_cast<uint32_t>(k))
                                           : key_of(1, 1, 0, k));
        Turns all = book.all();
        EXPECT_EQ(all.size(), 500u);
        for (const auto& entry : all)
            ASSERT_EQ(entry.second, 2);
    }
}

TEST(Ledger, ARollbackGivesBackItsOwnAndWhatWasReleasedIntoIt) {
    Book book;
    book.charge(1, key_of(1));
    book.charge(2, key_of(1));
    book.charge(2, key_of(2));
    book.charge(3, key_of(1));
    book.charge(3, key_of(3));
    book.ledger.commit_level(3);
    book.charge(3, key_of(4)); // another subtransaction of that level
    book.charge(4, key_of(5));
    Turns dropped = book.drop(3);
    EXPECT_EQ(dropped, (Turns{{parts(key_of(4)), 1}, {parts(key_of(5)), 1}}));
    dropped = book.drop(2);
    EXPECT_EQ(dropped,
              (Turns{{parts(key_of(1)), 2}, {parts(key_of(2)), 1}, {parts(key_of(3)), 1}}));
    EXPECT_EQ(book.all(), (Turns{{parts(key_of(1)), 1}}));
    EXPECT_EQ(book.drop(2), Turns{});
    EXPECT_EQ(book.drop(1), (Turns{{parts(key_of(1)), 1}}));
    EXPECT_TRUE(book.ledger.empty());
}

TEST(Ledger, LevelsWithoutChargesCostNothingAndAreSkipped) {
    Book book;
    book.charge(7, key_of(1));
    for (int level = 7; level >= 5; level--)
        book.ledger.commit_level(level);
    EXPECT_EQ(book.ledger.level_count, 1);
    book.charge(4, key_of(1)); // the level that it is at now
    EXPECT_EQ(book.ledger.level_count, 1);
    EXPECT_EQ(book.drop(5), Turns{});
    EXPECT_EQ(book.drop(4), (Turns{{parts(key_of(1)), 2}}));
}

TEST(Ledger, CommittingALevelThatChargedNothingLeavesTheOthers) {
    Book book;
    book.charge(2, key_of(1));
    book.ledger.commit_level(5);
    book.ledger.commit_level(3);
    EXPECT_EQ(book.drop(3), Turns{});
    EXPECT_EQ(book.all().size(), 1u);
    book.ledger.commit_level(2);
    book.ledger.commit_level(1); // the top level settles by for_each() and clear()
    EXPECT_EQ(book.drop(1), (Turns{{parts(key_of(1)), 1}}));
}

TEST(Ledger, UnchargingTakesBackFromItsLevelOnly) {
    Book book;
    book.charge(1, key_of(1));
    book.charge(2, key_of(1));
    book.charge(2, key_of(1));
    EXPECT_FALSE(book.ledger.uncharge(2, key_of(1), 3));
    EXPECT_FALSE(book.ledger.uncharge(3, key_of(1), 1));
    EXPECT_FALSE(book.ledger.uncharge(2, key_of(2), 1));
    EXPECT_TRUE(book.ledger.uncharge(2, key_of(1), 2));
    EXPECT_FALSE(book.ledger.uncharge(2, key_of(1), 1));
    EXPECT_EQ(book.drop(2), Turns{}) << "an entry of no turns is not handed out";
    EXPECT_EQ(book.all(), (Turns{{parts(key_of(1)), 1}}));
    EXPECT_TRUE(book.ledger.uncharge(1, key_of(1), 1));
    EXPECT_EQ(book.all(), Turns{});
}

TEST(Ledger, WhatTurnsCostGoesWithThem) {
    Book book;
    book.charge(1, key_of(1), 500);
    book.charge(2, key_of(1), -900);
    book.charge(2, key_of(1), 7);
    book.charge(2, key_of(2), 11);
    EXPECT_TRUE(book.ledger.uncharge(2, key_of(1), 1, 7));
    book.ledger.commit_level(2);
    book.charge(2, key_of(1), 3);
    book.grow(64);
    int64_t dropped = 0, kept = 0;
    book.ledger.drop_level(2, [&](const LedgerKey&, int64_t, int64_t extra) { dropped += extra; });
    book.ledger.for_each([&](const LedgerKey& key, int64_t turns, int64_t extra) {
        EXPECT_EQ(turns, key.rep == 1 ? 2 : 1);
        EXPECT_EQ(extra, key.rep == 1 ? -400 : 11);
        kept++;
    });
    EXPECT_EQ(dropped, 3);
    EXPECT_EQ(kept, 2);
}

TEST(Ledger, AnEntryIsGoneBeforeItIsHandedOut) {
    Book book;
    for (int rep = 0; rep < 10; rep++)
        book.charge(2, key_of(rep));
    int64_t left = 10;
    book.ledger.drop_level(
        1, [&](const LedgerKey&, int64_t, int64_t) { EXPECT_EQ(book.ledger.total(), --left); });
    EXPECT_EQ(left, 0);
}

TEST(Ledger, AMillionRowsNeedNoMoreRoomThanTen) {
    Book book;
    for (int row = 0; row < 1000000; row++)
        book.charge(1, key_of(row % 10));
    EXPECT_LE(book.ledger.capacity, 16);
    EXPECT_EQ(book.ledger.entry_count, 10);
    EXPECT_EQ(book.ledger.total(), 1000000);
    // Nor do a million subtransactions that end.
    for (int row = 0; row < 1000000; row++) {
        book.charge(2, key_of(row % 10));
        if (row % 2 == 0)
            book.ledger.commit_level(2);
        else
            book.drop(2);
    }
    EXPECT_LE(book.ledger.capacity, 16);
    EXPECT_EQ(book.ledger.total(), 1500000);
}

// Each of 100,000 nested savepoints charged a key of its own; quadratic work would not end.
TEST(Ledger, DeepNestingIsReleasedAndRolledBack) {
    constexpr int kDepth = 100000;
    for (bool same_key : {true, false}) {
        Book book;
        for (int level = 1; level <= kDepth; level++)
            book.charge(level, key_of(same_key ? 1 : level));
        EXPECT_EQ(book.ledger.level_count, kDepth);
        for (int level = kDepth; level > kDepth / 2; level--)
            book.ledger.commit_level(level);
        EXPECT_EQ(total(book.drop(kDepth / 2)), kDepth / 2 + 1);
        EXPECT_EQ(book.ledger.total(), kDepth / 2 - 1);
        for (int level = kDepth / 2 - 1; level > 1; level--)
            book.ledger.commit_level(level);
        EXPECT_EQ(book.ledger.level_count, 1);
        EXPECT_EQ(total(book.drop(1)), kDepth / 2 - 1);
        EXPECT_TRUE(book.ledger.empty());
        EXPECT_EQ(book.ledger.entry_count, 0);
    }
}

TEST(Ledger, ClearingKeepsTheBlock) {
    Book book;
    for (int rep = 0; rep < 100; rep++)
        book.charge(rep + 1, key_of(rep));
    int32_t capacity = book.ledger.capacity;
    book.ledger.clear();
    EXPECT_TRUE(book.ledger.empty());
    EXPECT_EQ(book.all(), Turns{});
    EXPECT_EQ(book.ledger.capacity, capacity);
    EXPECT_FALSE(book.ledger.needs_growth());
    book.charge(1, key_of(1));
    EXPECT_EQ(book.all(), (Turns{{parts(key_of(1)), 1}}));
}

// The model: what each level charged, by key.
struct Model {
    std::vector<Turns> levels{1}; // [0] is level 1
    Turns drop(int level) {
        Turns dropped;
        for (; static_cast<int>(levels.size()) >= level; levels.pop_back())
            for (const auto& [key, turns] : levels.back())
                if (turns != 0)
                    dropped[key] += turns;
        if (levels.empty())
            levels.emplace_back();
        return dropped;
    }
    Turns all() const {
        Turns found;
        for (const Turns& level : levels)
            for (const auto& [key, turns] : level)
                if (turns != 0)
                    found[key] += turns;
        return found;
    }
};

int soak() {
    const char* text = std::getenv("LEADROUTE_SOAK");
    return text ? std::max(1, std::atoi(text)) : 1;
}

void random_step(std::mt19937_64& random, Book& book, Model& model, int keys) {
    int depth = static_cast<int>(model.levels.size());
    LedgerKey key = key_of(static_cast<int64_t>(random() % static_cast<uint64_t>(keys)));
    key.pool = static_cast<int32_t>(random() % 2);
    switch (random() % 16) {
    case 0:
    case 1:
        model.levels.emplace_back();
        break;
    case 2:
        if (depth > 1) {
            for (const auto& [k, turns] : model.levels.back())
                model.levels[static_cast<size_t>(depth) - 2][k] += turns;
            model.levels.pop_back();
            book.ledger.commit_level(depth);
        }
        break;
    case 3:
        if (random() % 8 == 0) {
            int level = 1 + static_cast<int>(random() % static_cast<uint64_t>(depth));
            ASSERT_EQ(book.drop(level), model.drop(level));
        }
        break;
    case 4: {
        int64_t& turns = model.levels.back()[parts(key)];
        int64_t wanted = 1 + static_cast<int64_t>(random() % 2);
        bool possible = turns >= wanted;
        ASSERT_EQ(book.ledger.uncharge(depth, key, wanted), possible);
        turns -= possible ? wanted : 0;
        break;
    }
    default:
        book.charge(depth, key);
        model.levels.back()[parts(key)]++;
    }
    ASSERT_EQ(book.ledger.total(), total(model.all()));
}

TEST(Ledger, DoesWhatTheModelDoes) {
    for (int round = 0; round < 60 * soak(); round++) {
        std::mt19937_64 random(static_cast<uint64_t>(round));
        Book book;
        Model model;
        int keys = round % 2 == 0 ? 3 : 200;
        for (int step = 0; step < 1500; step++) {
            random_step(random, book, model, keys);
            if (HasFatalFailure())
                return;
        }
        ASSERT_EQ(book.all(), model.all());
        book.grow(book.ledger.entry_count + book.ledger.level_count);
        ASSERT_EQ(book.all(), model.all());
        while (model.levels.size() > 1) {
            int depth = static_cast<int>(model.levels.size());
            ASSERT_EQ(book.drop(depth), model.drop(depth));
        }
    }
}

} // namespace
} // namespace leadroute::test
