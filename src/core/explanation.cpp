// Encoding: a first byte with the version, whether rules failed or missed, whether pools were
// tried, and the note; the rule errors and misses if there are any; then each pool that was tried.
// Integers are base-128 varints, signed ones zigzag. A candidate's rep and deficit are written as
// differences to the candidate before, which in a rotation are small: a byte is WAL and disk of
// every lead.
//
//     first byte   vvftmnnn: version, failures or misses, tried, a measure other than turns, note
//     tried        twice the pool, and 1 when another follows; the measure, if the first byte says
//                  so; members, 2 more of a known owner; one byte cccccooo (candidates; others, 7:
//                  their number follows)
//     candidate    one byte sssssddd: state, and 0..6: the rep's difference plus 3, 7: it follows;
//                  then the measure's difference, or used and cap, as the state has them
//     others       state, count
#include "explanation.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace leadroute::core {

namespace {

constexpr uint8_t kVersion = 1;
constexpr int kVersionShift = 6;
constexpr uint8_t kFailures = 1 << 5;
constexpr uint8_t kTried = 1 << 4;
constexpr uint8_t kMeasured = 1 << 3;
constexpr uint8_t kNoteBits = kMeasured - 1;
constexpr int kOthersBits = 3; // how many states others have
constexpr int kManyOthers = (1 << kOthersBits) - 1;
constexpr int kNearBits = 3; // a rep's difference that fits into the state's byte
constexpr int64_t kNear = 3; // from -kNear to kNear
constexpr uint8_t kFar = 7;  // it does not fit
static_assert(kStates <= (1 << (8 - kNearBits)));
static_assert(kMaxCandidates < (1 << (8 - kOthersBits)));
constexpr double kMeasureUnit = 1000;
constexpr double kMaxMeasure = 1e12;
constexpr int kSqlstateLength = 5;
constexpr int32_t kKnownOwner = 2; // added to the members of pool 0

const char* const kStateNames[kStates] = {"picked",     "turn",          "rep_cap",    "member_cap",
                                          "rep_paused", "member_paused", "no_ref",     "open_cap",
                                          "absent",     "off_shift",     "signed_out", "unskilled",
                                          "lower_tier", "gave_up",       "offered"};
const char* const kMeasureNames[kMeasures] = {"deficit", "open", "km", "value"};
const char* const kNoteNames[] = {"",          "unmatched", "manual", "nobody",
                                  "pool_gone", "sticky",    "pull",   "offered"};
static_assert(sizeof(kNoteNames) / sizeof(kNoteNames[0]) == kNoteBits + 1);

bool has_measure(State state) noexcept {
    return state == State::picked || state == State::turn;
}

bool has_cap(State state) noexcept {
    return state == State::rep_cap || state == State::member_cap || state == State::open_cap;
}

bool is_sqlstate_char(char c) noexcept {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || c == '?';
}

// Writes the stored form; the caller's room is known to suffice.
struct Encoder {
    uint8_t* out;
    int32_t length = 0;

    void byte(uint8_t value) noexcept { out[length++] = value; }
    void number(uint64_t value) noexcept {
        for (; value >= 0x80; value >>= 7)
            byte(static_cast<uint8_t>(value | 0x80));
        byte(static_cast<uint8_t>(value));
    }
    void zigzag(int64_t value) noexcept {
        number((static_cast<uint64_t>(value) << 1) ^ static_cast<uint64_t>(value >> 63));
    }
};

int64_t measure_units(double measure) noexcept {
    double bounded = std::isnan(measure) ? 0 : std::clamp(measure, -kMaxMeasure, kMaxMeasure);
    return std::llround(bounded * kMeasureUnit);
}

// The difference of two rep ids, and back; any two have one, as unsigned numbers wrap around.
int64_t difference(int64_t to, int64_t from) noexcept {
    return static_cast<int64_t>(static_cast<uint64_t>(to) - static_cast<uint64_t>(from));
}
int64_t add(int64_t from, int64_t difference) noexcept {
    return static_cast<int64_t>(static_cast<uint64_t>(from) + static_cast<uint64_t>(difference));
}

// What the next candidate is written as the difference to.
struct Previous {
    int64_t rep = 0;
    int64_t measure = 0;
};

// Reads the stored form, which may be anything: once a read fails, all further ones give 0.
struct Decoder {
    const uint8_t* bytes;
    int32_t length;
    int32_t at = 0;
    bool ok = true;

    uint8_t byte() noexcept {
        if (!ok || at >= length) {
            ok = false;
            return 0;
        }
        return bytes[at++];
    }
    uint64_t number() noexcept {
        uint64_t value = 0;
        for (int shift = 0; shift < 64; shift += 7) {
            uint8_t b = byte();
            if (shift == 63 && b > 1)
                break;
            value |= static_cast<uint64_t>(b & 0x7f) << shift;
            if (b < 0x80)
                return value;
        }
        ok = false;
        return 0;
    }
    int64_t zigzag() noexcept {
        uint64_t value = number();
        return static_cast<int64_t>((value >> 1) ^ (0 - (value & 1)));
    }
    // A number that must not exceed `most`.
    int32_t number_to(int32_t most) noexcept {
        uint64_t value = number();
        if (value > static_cast<uint64_t>(most)) {
            ok = false;
            return 0;
        }
        return static_cast<int32_t>(value);
    }
    int32_t int32() noexcept {
        int64_t value = zigzag();
        if (value < INT32_MIN || value > INT32_MAX)
            ok = false;
        return ok ? static_cast<int32_t>(value) : 0;
    }
};

// Writes JSON into limited room.
struct Json {
    char* out;
    int32_t room;
    int32_t length = 0;
    bool ok = true;

    void text(const char* text, size_t size) noexcept {
        if (!ok || size >= static_cast<size_t>(room - length)) { // keeps room for the final zero
            ok = false;
            return;
        }
        memcpy(out + length, text, size);
        length += static_cast<int32_t>(size);
    }
    void text(const char* t) noexcept { text(t, strlen(t)); }
    void number(int64_t value) noexcept {
        char digits[24];
        char* p = digits + sizeof(digits);
        uint64_t rest = value < 0 ? 0 - static_cast<uint64_t>(value) : static_cast<uint64_t>(value);
        do {
            *--p = static_cast<char>('0' + rest % 10);
            rest /= 10;
        } while (rest > 0);
        if (value < 0)
            *--p = '-';
        text(p, static_cast<size_t>(digits + sizeof(digits) - p));
    }
    // Thousandths, without trailing zeros.
    void thousandths(int64_t value) noexcept {
        if (value < 0)
            text("-");
        uint64_t rest = value < 0 ? 0 - static_cast<uint64_t>(value) : static_cast<uint64_t>(value);
        number(static_cast<int64_t>(rest / 1000));
        char fraction[4] = {'.', static_cast<char>('0' + rest / 100 % 10),
                            static_cast<char>('0' + rest / 10 % 10),
                            static_cast<char>('0' + rest % 10)};
        size_t size = 4;
        while (size > 1 && fraction[size - 1] == '0')
            size--;
        if (size > 1)
            text(fraction, size);
    }
    void field(const char* name, int64_t value) noexcept {
        text(name);
        number(value);
    }
};

void encode_candidate(Encoder& e, const Candidate& c, Previous& previous) noexcept {
    int64_t step = difference(c.rep, previous.rep);
    bool near = step >= -kNear && step <= kNear;
    auto state = static_cast<uint8_t>(static_cast<uint8_t>(c.state) << kNearBits);
    e.byte(static_cast<uint8_t>(state | (near ? static_cast<uint8_t>(step + kNear) : kFar)));
    if (!near)
        e.zigzag(step);
    previous.rep = c.rep;
    if (has_measure(c.state)) {
        int64_t measure = measure_units(c.measure);
        e.zigzag(measure - previous.measure);
        previous.measure = measure;
    }
    if (has_cap(c.state)) {
        e.zigzag(c.used);
        e.zigzag(c.cap);
    }
}

void encode_tried(Encoder& e, const Tried& tried, bool measured, bool more) noexcept {
    int32_t candidates = std::clamp(tried.candidate_count, 0, kMaxCandidates);
    auto others =
        std::count_if(tried.others, tried.others + kStates, [](int32_t n) { return n > 0; });
    e.number((static_cast<uint64_t>(std::max(tried.pool, 0)) << 1) | (more ? 1 : 0));
    if (measured)
        e.byte(static_cast<uint8_t>(tried.measure));
    uint64_t mark = tried.pool <= 0 && tried.known ? kKnownOwner : 0;
    e.number(static_cast<uint64_t>(std::max(tried.members, 0)) + mark);
    bool many = others >= kManyOthers;
    e.byte(static_cast<uint8_t>((candidates << kOthersBits) |
                                (many ? kManyOthers : static_cast<int>(others))));
    if (many)
        e.byte(static_cast<uint8_t>(others));
    Previous previous;
    for (int32_t k = 0; k < candidates; k++)
        encode_candidate(e, tried.candidates[k], previous);
    for (int32_t state = 0; state < kStates; state++) {
        if (tried.others[state] > 0) {
            e.byte(static_cast<uint8_t>(state));
            e.number(static_cast<uint64_t>(tried.others[state]));
        }
    }
}

void encode_misses(Encoder& e, const int64_t* rules, int32_t count) noexcept {
    int32_t kept = std::min(count, kMaxMisses);
    e.number(static_cast<uint64_t>(kept));
    e.number(static_cast<uint64_t>(count - kept));
    for (int32_t k = 0; k < kept; k++)
        e.zigzag(rules[k]);
}

void rule_errors_to_json(Decoder& d, Json& j, bool any) noexcept {
    int32_t kept = any ? d.number_to(kMaxRuleErrors) : 0;
    int32_t more = any ? d.number_to(INT32_MAX) : 0;
    j.text("\"rule_errors\":[");
    for (int32_t k = 0; k < kept && d.ok; k++) {
        j.field(k > 0 ? ",{\"rule\":" : "{\"rule\":", d.zigzag());
        char sqlstate[kSqlstateLength];
        for (char& c : sqlstate) {
            c = static_cast<char>(d.byte());
            d.ok = d.ok && is_sqlstate_char(c);
        }
        j.text(",\"sqlstate\":\"");
        j.text(sqlstate, sizeof(sqlstate));
        j.text("\"}");
    }
    j.text("]");
    if (more > 0)
        j.field(",\"more_rule_errors\":", more);
}

void misses_to_json(Decoder& d, Json& j, bool any) noexcept {
    int32_t kept = any ? d.number_to(kMaxMisses) : 0;
    int32_t more = any ? d.number_to(INT32_MAX) : 0;
    if (kept == 0)
        return;
    j.text(",\"not_found\":[");
    for (int32_t k = 0; k < kept && d.ok; k++)
        j.field(k > 0 ? "," : "", d.zigzag());
    j.text("]");
    if (more > 0)
        j.field(",\"more_not_found\":", more);
}

void candidate_to_json(Decoder& d, Json& j, Measure measure, Previous& previous) noexcept {
    uint8_t code = d.byte();
    uint8_t near = code & kFar;
    code >>= kNearBits;
    if (code >= kStates) {
        d.ok = false;
        return;
    }
    State state = static_cast<State>(code);
    previous.rep = add(previous.rep, near == kFar ? d.zigzag() : near - kNear);
    j.field("{\"rep\":", previous.rep);
    j.text(",\"state\":\"");
    j.text(kStateNames[code]);
    j.text("\"");
    if (has_measure(state)) {
        previous.measure = add(previous.measure, d.zigzag());
        j.text(",\"");
        j.text(measure_name(measure));
        j.text("\":");
        j.thousandths(previous.measure);
    }
    if (has_cap(state)) {
        j.field(",\"used\":", d.int32());
        j.field(",\"cap\":", d.int32());
    }
    j.text("}");
}

void others_to_json(Decoder& d, Json& j, int32_t count) noexcept {
    int32_t previous = -1; // each state once, in order
    for (int32_t k = 0; k < count && d.ok; k++) {
        uint8_t code = d.byte();
        if (code >= kStates || code <= previous) {
            d.ok = false;
            return;
        }
        previous = code;
        j.text(k > 0 ? ",\"" : ",\"others\":{\"");
        j.text(kStateNames[code]);
        j.field("\":", d.number_to(INT32_MAX));
    }
    if (count > 0)
        j.text("}");
}

// True: another follows.
bool tried_to_json(Decoder& d, Json& j, bool measured) noexcept {
    uint64_t pool = d.number();
    if (pool >> 1 > INT32_MAX)
        d.ok = false;
    j.field("{\"pool\":", static_cast<int64_t>(pool >> 1));
    uint8_t measure = measured ? d.byte() : 0;
    if (measure >= kMeasures) {
        d.ok = false;
        return false;
    }
    int32_t members = d.number_to(INT32_MAX);
    bool known = pool >> 1 == 0 && members >= kKnownOwner;
    j.field(",\"members\":", known ? members - kKnownOwner : members);
    if (known)
        j.text(",\"known\":true");
    uint8_t counts = d.byte();
    int32_t candidates = counts >> kOthersBits;
    int32_t others = counts & kManyOthers;
    if (others == kManyOthers)
        others = d.byte();
    if (candidates > kMaxCandidates)
        d.ok = false;
    j.text(",\"candidates\":[");
    Previous previous;
    for (int32_t k = 0; k < candidates && d.ok; k++) {
        if (k > 0)
            j.text(",");
        candidate_to_json(d, j, static_cast<Measure>(measure), previous);
    }
    j.text("]");
    others_to_json(d, j, others);
    j.text("}");
    return (pool & 1) != 0;
}

} // namespace

const char* measure_name(Measure measure) noexcept {
    return kMeasureNames[static_cast<int>(measure)];
}

const char* state_name(State state) noexcept {
    auto code = static_cast<uint8_t>(state);
    return code < kStates ? kStateNames[code] : "";
}

int32_t encode(const Explanation& explanation, uint8_t* out) noexcept {
    Encoder e{out};
    int32_t errors = std::max(explanation.rule_error_count, 0);
    int32_t kept = std::min(errors, kMaxRuleErrors);
    int32_t misses = std::max(explanation.miss_count, 0);
    int32_t tried = std::clamp(explanation.tried_count, 0, kMaxTried);
    bool failures = errors > 0 || misses > 0;
    bool measured = std::any_of(explanation.tried, explanation.tried + tried,
                                [](const Tried& t) { return t.measure != Measure::turns; });
    e.byte(static_cast<uint8_t>((kVersion << kVersionShift) | (failures ? kFailures : 0) |
                                (tried > 0 ? kTried : 0) | (measured ? kMeasured : 0) |
                                static_cast<int>(explanation.note)));
    if (failures) {
        e.number(static_cast<uint64_t>(kept));
        e.number(static_cast<uint64_t>(errors - kept));
    }
    for (int32_t k = 0; k < kept; k++) {
        e.zigzag(explanation.rule_errors[k].rule);
        for (char c : explanation.rule_errors[k].sqlstate)
            e.byte(static_cast<uint8_t>(is_sqlstate_char(c) ? c : '?'));
    }
    if (failures)
        encode_misses(e, explanation.misses, misses);
    for (int32_t k = 0; k < tried; k++)
        encode_tried(e, explanation.tried[k], measured, k + 1 < tried);
    return e.length;
}

int32_t to_json(const uint8_t* bytes, int32_t length, char* out, int32_t room) noexcept {
    Decoder d{bytes, length};
    Json j{out, room};
    uint8_t first = d.byte();
    uint8_t note = first & kNoteBits;
    if (room < 1 || !d.ok || first >> kVersionShift != kVersion)
        return -1;
    j.text("{");
    rule_errors_to_json(d, j, (first & kFailures) != 0);
    misses_to_json(d, j, (first & kFailures) != 0);
    j.text(",\"tried\":[");
    bool more = (first & kTried) != 0;
    for (int32_t k = 0; more && d.ok && j.ok; k++) {
        if (k == kMaxTried)
            return -1;
        if (k > 0)
            j.text(",");
        more = tried_to_json(d, j, (first & kMeasured) != 0);
    }
    j.text("]");
    if (note > 0) {
        j.text(",\"note\":\"");
        j.text(kNoteNames[note]);
        j.text("\"");
    }
    j.text("}");
    if (!d.ok || !j.ok || d.at != length)
        return -1;
    out[j.length] = '\0';
    return j.length;
}

} // namespace leadroute::core
