// Explanations: what is encoded decodes to the JSON that is promised, in few bytes, and arbitrary
// bytes decode to valid JSON or to nothing, within the room given.
#include "explanation.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

namespace leadroute::test {
namespace {

using core::Candidate;
using core::Explanation;
using core::Note;
using core::State;
using Bytes = std::vector<uint8_t>;

constexpr int32_t kRoom = 65536;

Bytes encoded(const Explanation& explanation) {
    Bytes bytes(core::kMaxEncoded);
    bytes.resize(static_cast<size_t>(core::encode(explanation, bytes.data())));
    return bytes;
}

// Input and output on the heap at their exact sizes: AddressSanitizer sees any access beyond.
std::string json_of(const Bytes& bytes, int32_t room = kRoom) {
    std::unique_ptr<uint8_t[]> in(new uint8_t[bytes.size()]);
    std::copy(bytes.begin(), bytes.end(), in.get());
    std::unique_ptr<char[]> out(new char[static_cast<size_t>(room)]);
    int32_t length = core::to_json(in.get(), static_cast<int32_t>(bytes.size()), out.get(), room);
    if (length < 0)
        return "invalid";
    EXPECT_LT(length, room);
    EXPECT_EQ(strlen(out.get()), static_cast<size_t>(length));
    return out.get();
}

// A recogniser of JSON, to the letter of RFC 8259 but for \u escapes, which never come up.
class JsonChecker {
  public:
    explicit JsonChecker(const std::string& text) : at_(text.c_str()) {}
    bool valid() { return value() && *at_ == '\0'; }

  private:
    bool skip(char c) {
        if (*at_ != c)
            return false;
        at_++;
        return true;
    }
    bool digits() {
        if (!isdigit(static_cast<unsigned char>(*at_)))
            return false;
        while (isdigit(static_cast<unsigned char>(*at_)))
            at_++;
        return true;
    }
    bool number() {
        skip('-');
        if (!skip('0') && !digits())
            return false;
        return !skip('.') || digits();
    }
    bool string() {
        if (!skip('"'))
            return false;
        for (; *at_ != '"'; at_++)
            if (static_cast<unsigned char>(*at_) < 0x20 || *at_ == '\\' || *at_ < 0)
                return false;
        return skip('"');
    }
    bool list(char end, bool named) {
        at_++;
        if (skip(end))
            return true;
        do {
            if (named && !(string() && skip(':')))
                return false;
            if (!value())
                return false;
        } while (skip(','));
        return skip(end);
    }
    bool value() {
        if (*at_ == '{')
            return list('}', true);
        if (*at_ == '[')
            return list(']', false);
        if (strncmp(at_, "true", 4) == 0) {
            at_ += 4;
            return true;
        }
        return *at_ == '"' ? string() : number();
    }

    const char* at_;
};

// The pick of a pool of 12 with one at its cap, after a rule that failed.
Explanation example() {
    Explanation e{};
    e.rule_error_count = 1;
    e.rule_errors[0].rule = 5;
    memcpy(e.rule_errors[0].sqlstate, "22012", 5);
    e.tried_count = 1;
    e.tried[0].pool = 3;
    e.tried[0].members = 12;
    e.tried[0].candidate_count = 3;
    e.tried[0].candidates[0] = {2, State::picked, -0.6666, 0, 0};
    e.tried[0].candidates[1] = {7, State::rep_cap, 0, 5, 6};
    e.tried[0].candidates[2] = {9, State::turn, 0.2, 0, 0};
    e.tried[0].others[static_cast<int>(State::turn)] = 80;
    e.tried[0].others[static_cast<int>(State::rep_cap)] = 4;
    return e;
}

TEST(Explanation, DecodesToTheJsonThatIsPromised) {
    Explanation e = example();
    std::string start = R"({"rule_errors":[{"rule":5,"sqlstate":"22012"}],)"
                        R"("tried":[{"pool":3,"members":12,"candidates":[)"
                        R"({"rep":2,"state":"picked","deficit":-0.667},)"
                        R"({"rep":7,"state":"rep_cap","used":5,"cap":6},)"
                        R"({"rep":9,"state":"turn","deficit":0.2}],)"
                        R"("others":{"turn":80,"rep_cap":4}}])";
    EXPECT_EQ(json_of(encoded(e)), start + "}");
    e.note = Note::unmatched;
    EXPECT_EQ(json_of(encoded(e)), start + R"(,"note":"unmatched"})");
    EXPECT_LT(encoded(e).size(), 40u);
}

TEST(Explanation, NamesRulesWhoseTerritoryDoesNotKnowTheKey) {
    Explanation e{};
    e.miss_count = 2;
    e.misses[0] = 7;
    e.misses[1] = INT64_MIN;
    EXPECT_EQ(json_of(encoded(e)),
              R"({"rule_errors":[],"not_found":[7,-9223372036854775808],"tried":[]})");
    e = example();
    e.miss_count = core::kMaxMisses + 3;
    std::string json = json_of(encoded(e));
    EXPECT_NE(json.find(R"("sqlstate":"22012"}],"not_found":[0,0,0,0,0,0,0,0],)"
                        R"("more_not_found":3,"tried":[{"pool":3,)"),
              std::string::npos)
        << json;
}

TEST(Explanation, NothingToSayIsShort) {
    Explanation e{};
    EXPECT_EQ(json_of(encoded(e)), R"({"rule_errors":[],"tried":[]})");
    EXPECT_LT(encoded(e).size(), 8u);
    const char* names[] = {"unmatched", "manual", "nobody", "pool_gone",
                           "sticky",    "pull",   "offered"};
    for (int note = 1; note <= 7; note++) {
        e.note = static_cast<Note>(note);
        EXPECT_EQ(json_of(encoded(e)), std::string(R"({"rule_errors":[],"tried":[],"note":")") +
                                           names[note - 1] + "\"}");
    }
}

TEST(Explanation, EveryStateHasItsNameAndItsFields) {
    const char* expected[core::kStates] = {
        R"({"rep":1,"state":"picked","deficit":1.5})",
        R"({"rep":1,"state":"turn","deficit":1.5})",
        R"({"rep":1,"state":"rep_cap","used":8,"cap":9})",
        R"({"rep":1,"state":"member_cap","used":8,"cap":9})",
        R"({"rep":1,"state":"rep_paused"})",
        R"({"rep":1,"state":"member_paused"})",
        R"({"rep":1,"state":"no_ref"})",
        R"({"rep":1,"state":"open_cap","used":8,"cap":9})",
        R"({"rep":1,"state":"absent"})",
        R"({"rep":1,"state":"off_shift"})",
        R"({"rep":1,"state":"signed_out"})",
        R"({"rep":1,"state":"unskilled"})",
        R"({"rep":1,"state":"lower_tier"})",
        R"({"rep":1,"state":"gave_up"})",
        R"({"rep":1,"state":"offered"})",
    };
    for (int state = 0; state < core::kStates; state++) {
        Explanation e{};
        e.tried_count = 1;
        e.tried[0].candidate_count = 1;
        e.tried[0].candidates[0] = {1, static_cast<State>(state), 1.5, 8, 9};
        EXPECT_EQ(
            json_of(encoded(e)),
            std::string(R"({"rule_errors":[],"tried":[{"pool":0,"members":0,"candidates":[)") +
                expected[state] + "]}]}");
        EXPECT_NE(strstr(expected[state], core::state_name(static_cast<State>(state))), nullptr);
    }
    EXPECT_STREQ(core::state_name(static_cast<State>(core::kStates)), "");
}

TEST(Explanation, AKnownOwnerIsToldFromARulesRep) {
    Explanation e{};
    e.note = Note::sticky;
    e.tried_count = 2;
    e.tried[0].known = true;
    e.tried[1].members = 1;
    EXPECT_EQ(json_of(encoded(e)),
              R"({"rule_errors":[],"tried":[{"pool":0,"members":0,"known":true,"candidates":[]},)"
              R"({"pool":0,"members":1,"candidates":[]}],"note":"sticky"})");
    e.tried[0].members = 1;
    EXPECT_NE(json_of(encoded(e)).find(R"("members":1,"known":true)"), std::string::npos);
    e.tried[0].pool = 3; // a pool is not one
    EXPECT_EQ(json_of(encoded(e)).find("known"), std::string::npos);
}

std::string deficit_of(double deficit) {
    Explanation e{};
    e.tried_count = 1;
    e.tried[0].candidate_count = 1;
    e.tried[0].candidates[0] = {1, State::turn, deficit, 0, 0};
    std::string json = json_of(encoded(e));
    size_t at = json.find("\"deficit\":") + strlen("\"deficit\":");
    return json.substr(at, json.find('}', at) - at);
}

TEST(Explanation, EveryMeasureHasItsName) {
    const char* names[core::kMeasures] = {"deficit", "open", "km", "value"};
    for (int measure = 0; measure < core::kMeasures; measure++) {
        Explanation e{};
        e.tried_count = 2;
        e.tried[0].measure = static_cast<core::Measure>(measure);
        for (int k = 0; k < 2; k++) {
            core::Tried& tried = e.tried[k];
            tried.candidate_count = 1;
            tried.candidates[0] = {1, State::picked, 2.5, 0, 0};
        }
        std::string json = json_of(encoded(e));
        EXPECT_NE(json.find(std::string("\"") + names[measure] + "\":2.5"), std::string::npos);
        EXPECT_NE(json.find("\"deficit\":2.5"), std::string::npos);
    }
    Explanation e{};
    e.tried_count = 1;
    e.tried[0].measure = static_cast<core::Measure>(core::kMeasures);
    EXPECT_EQ(json_of(encoded(e)), "invalid");
}

TEST(Explanation, EveryStateMayStandAmongTheOthers) {
    Explanation e{};
    e.tried_count = 1;
    for (int state = 0; state < core::kStates; state++)
        e.tried[0].others[state] = state + 1;
    std::string json = json_of(encoded(e));
    EXPECT_TRUE(JsonChecker(json).valid());
    for (int state = 0; state < core::kStates; state++)
        EXPECT_NE(json.find(std::string("\"") + core::state_name(static_cast<State>(state)) +
                            "\":" + std::to_string(state + 1)),
                  std::string::npos);
}

TEST(Explanation, DeficitsAreThousandthsOfATurn) {
    EXPECT_EQ(deficit_of(0), "0");
    EXPECT_EQ(deficit_of(-0.0004), "0");
    EXPECT_EQ(deficit_of(0.0005), "0.001");
    EXPECT_EQ(deficit_of(-0.001), "-0.001");
    EXPECT_EQ(deficit_of(0.01), "0.01");
    EXPECT_EQ(deficit_of(-0.5), "-0.5");
    EXPECT_EQ(deficit_of(0.9996), "1");
    EXPECT_EQ(deficit_of(-12.34), "-12.34");
    EXPECT_EQ(deficit_of(1000), "1000");
    EXPECT_EQ(deficit_of(std::nan("")), "0");
    EXPECT_EQ(deficit_of(HUGE_VAL), "1000000000000");
    EXPECT_EQ(deficit_of(-1e300), "-1000000000000");
}

// Everything at its largest: fits the room that the header promises.
Explanation largest() {
    Explanation e{};
    e.note = Note::unmatched;
    e.rule_error_count = INT32_MAX;
    for (core::RuleError& error : e.rule_errors) {
        error.rule = INT64_MIN;
        memcpy(error.sqlstate, "XX000", 5);
    }
    e.miss_count = INT32_MAX;
    for (int64_t& rule : e.misses)
        rule = INT64_MIN;
    e.tried_count = core::kMaxTried;
    for (core::Tried& tried : e.tried) {
        tried.pool = tried.members = INT32_MAX;
        tried.measure = core::Measure::value;
        tried.candidate_count = core::kMaxCandidates;
        for (Candidate& c : tried.candidates)
            c = {INT64_MIN, State::member_cap, 0, INT32_MIN, INT32_MIN};
        for (int k = 1; k < core::kMaxCandidates; k += 2)
            tried.candidates[k].rep = INT64_MIN / 2; // far from the one before
        for (int32_t& count : tried.others)
            count = INT32_MAX;
    }
    return e;
}

TEST(Explanation, TheLargestFits) {
    Bytes bytes = encoded(largest());
    EXPECT_LE(bytes.size(), static_cast<size_t>(core::kMaxEncoded));
    std::string json = json_of(bytes);
    EXPECT_TRUE(JsonChecker(json).valid());
    EXPECT_NE(json.find("\"rule\":-9223372036854775808"), std::string::npos);
    EXPECT_NE(json.find("\"more_rule_errors\":2147483639"), std::string::npos);
    EXPECT_NE(json.find("\"used\":-2147483648"), std::string::npos);
    EXPECT_LT(json.size(), static_cast<size_t>(kRoom));
}

TEST(Explanation, CountsBeyondTheArraysAreCut) {
    Explanation e = largest();
    Bytes sane = encoded(e);
    e.tried_count = 1000;
    for (core::Tried& tried : e.tried)
        tried.candidate_count = 1000;
    EXPECT_EQ(encoded(e), sane);
    e = Explanation{};
    Bytes empty = encoded(e);
    e.tried_count = e.rule_error_count = -3;
    EXPECT_EQ(encoded(e), empty);
}

TEST(Explanation, SqlstatesCannotBreakOut) {
    Explanation e = example();
    memcpy(e.rule_errors[0].sqlstate, "\"}\0a\xff", 5);
    std::string json = json_of(encoded(e));
    EXPECT_TRUE(JsonChecker(json).valid());
    EXPECT_NE(json.find("\"sqlstate\":\"?????\""), std::string::npos);
}

TEST(Explanation, TooLittleRoomGivesNothing) {
    Bytes bytes = encoded(example());
    int32_t needed = static_cast<int32_t>(json_of(bytes).size()) + 1;
    for (int32_t room = 0; room < needed; room++)
        ASSERT_EQ(json_of(bytes, room), "invalid") << room;
    EXPECT_NE(json_of(bytes, needed), "invalid");
}

TEST(Explanation, AnythingCutShortOrLongerIsInvalid) {
    for (const Explanation& e : {example(), largest(), Explanation{}}) {
        Bytes bytes = encoded(e);
        for (size_t length = 0; length < bytes.size(); length++)
            ASSERT_EQ(json_of(Bytes(bytes.begin(), bytes.begin() + std::ptrdiff_t(length))),
                      "invalid");
        bytes.push_back(0);
        EXPECT_EQ(json_of(bytes), "invalid");
    }
}

TEST(Explanation, UnknownVersionsAndStatesAreInvalid) {
    Bytes bytes = encoded(Explanation{});
    ASSERT_EQ(bytes, Bytes{0x40});
    bytes[0] = 0x80;
    EXPECT_EQ(json_of(bytes), "invalid");
    Explanation e = example();
    e.tried[0].candidates[1].state = static_cast<State>(core::kStates);
    EXPECT_EQ(json_of(encoded(e)), "invalid");
}

TEST(Explanation, AStateThatComesTwiceIsInvalid) {
    Explanation e{};
    e.tried_count = 1;
    e.tried[0].others[1] = e.tried[0].others[2] = 1;
    Bytes bytes = encoded(e);
    ASSERT_EQ(bytes, (Bytes{0x50, 0, 0, 2, 1, 1, 2, 1}));
    bytes[6] = 1; // or a key of the JSON object would
    EXPECT_EQ(json_of(bytes), "invalid");
}

TEST(Explanation, NumbersOfMoreThan64BitsAreInvalid) {
    Bytes bytes = {0x60, 1,   0, 255, 255, 255, 255, 255, 255, 255,
                   255,  255, 1, '2', '2', '0', '1', '2', 0,   0};
    EXPECT_EQ(json_of(bytes),
              R"({"rule_errors":[{"rule":-9223372036854775808,"sqlstate":"22012"}],"tried":[]})");
    bytes[12] = 2;
    EXPECT_EQ(json_of(bytes), "invalid");
    bytes[12] = 129;
    bytes.insert(bytes.begin() + 13, 0);
    EXPECT_EQ(json_of(bytes), "invalid");
}

Explanation random_explanation(std::mt19937_64& random) {
    auto below = [&](int n) { return static_cast<int32_t>(random() % static_cast<uint64_t>(n)); };
    Explanation e{};
    e.note = static_cast<Note>(below(5));
    e.rule_error_count = below(12);
    for (core::RuleError& error : e.rule_errors) {
        error.rule = static_cast<int64_t>(random());
        for (char& c : error.sqlstate)
            c = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"[below(36)];
    }
    e.miss_count = std::max(0, below(20) - 8);
    for (int64_t& rule : e.misses)
        rule = static_cast<int64_t>(random());
    e.tried_count = below(core::kMaxTried + 1);
    for (core::Tried& tried : e.tried) {
        tried.pool = below(1000);
        tried.members = below(10000);
        tried.known = below(2) == 1;
        tried.candidate_count = below(core::kMaxCandidates + 1);
        for (Candidate& c : tried.candidates)
            c = {static_cast<int64_t>(random() >> below(64)), static_cast<State>(below(7)),
                 below(4000) / 1000.0 - 2, below(300), below(300)};
        for (int32_t& count : tried.others)
            count = below(3) * below(500);
    }
    return e;
}

int soak() {
    const char* text = std::getenv("LEADROUTE_SOAK");
    return text ? std::max(1, std::atoi(text)) : 1;
}

TEST(Explanation, RandomOnesAreValidJson) {
    std::mt19937_64 random(1);
    for (int round = 0; round < 2000 * soak(); round++) {
        Explanation e = random_explanation(random);
        Bytes bytes = encoded(e);
        ASSERT_LE(bytes.size(), static_cast<size_t>(core::kMaxEncoded));
        std::string json = json_of(bytes);
        ASSERT_TRUE(JsonChecker(json).valid()) << json;
        std::string reps;
        for (size_t at = 0; (at = json.find("{\"rep\":", at)) != std::string::npos; at++)
            reps += json.substr(at + 7, json.find(',', at) - at - 7).append(" ");
        std::string candidates;
        for (int k = 0; k < e.tried_count; k++)
            for (int i = 0; i < e.tried[k].candidate_count; i++)
                candidates += std::to_string(e.tried[k].candidates[i].rep) + " ";
        ASSERT_EQ(reps, candidates);
    }
}

// Random bytes rarely get far, so most rounds damage a real explanation.
TEST(Explanation, AnyBytesGiveValidJsonOrNothing) {
    std::mt19937_64 random(2);
    int valid = 0;
    for (int round = 0; round < 60000 * soak(); round++) {
        Bytes bytes;
        if (round % 4 == 0) {
            bytes.resize(random() % 64);
            for (uint8_t& b : bytes)
                b = static_cast<uint8_t>(random() % (round % 8 == 0 ? 256 : 8));
        } else {
            bytes = encoded(random_explanation(random));
            for (int k = 0; k < 1 + round % 3; k++)
                bytes[random() % bytes.size()] = static_cast<uint8_t>(random());
            if (round % 5 == 0)
                bytes.resize(random() % (bytes.size() + 8));
        }
        int32_t room = round % 7 == 0 ? static_cast<int32_t>(random() % 600) : kRoom;
        std::string json = json_of(bytes, room);
        if (json == "invalid")
            continue;
        valid++;
        ASSERT_TRUE(JsonChecker(json).valid()) << json;
    }
    EXPECT_GT(valid, 1000); // damage that is not noticed must come up, or nothing was tested
}

} // namespace
} // namespace leadroute::test
