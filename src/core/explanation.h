// The explanation of one decision, as it is kept on its record: a few dozen bytes that decode to
// JSON. Numbers are variable-length integers; deficits are thousandths of a turn.
#pragma once

#include <cstdint>

namespace leadroute::core {

// Why a member was picked or not. The codes are stored: never renumber.
enum class State : uint8_t {
    picked = 0,
    turn = 1, // eligible, but others were due first
    rep_cap = 2,
    member_cap = 3,
    rep_paused = 4,
    member_paused = 5,
    no_ref = 6,      // the lead table's owner column cannot name this rep
    open_cap = 7,    // has as many open leads as allowed
    absent = 8,      // leave or illness
    off_shift = 9,   // outside working hours, or on a holiday of the calendar
    signed_out = 10, // the pool asks for presence
    unskilled = 11,  // lacks a skill that the rule needs
    lower_tier = 12, // a member of a tier before has been available
    gave_up = 13,    // has had this lead, and given it up or lost it
    offered = 14,    // may take the lead, and was told so
};
constexpr int kStates = 15;
const char* state_name(State state) noexcept;

enum class Note : uint8_t {
    none = 0,
    unmatched = 1,
    manual = 2,
    nobody = 3,
    pool_gone = 4,
    sticky = 5,  // the rep knows this contact
    pull = 6,    // it waits in the pool until a member claims it
    offered = 7, // to all members who might take it
};

// What a pool's method compares its members by. The codes are stored: never renumber.
enum class Measure : uint8_t {
    turns = 0,      // deficit in turns
    open = 1,       // open leads
    kilometres = 2, // to the lead
    value = 3,      // deficit in the unit of the leads' value
};
constexpr int kMeasures = 4;
const char* measure_name(Measure measure) noexcept;

struct Candidate {
    int64_t rep;
    State state;
    double measure; // picked, turn: by the pool's method
    int32_t used;   // rep_cap, member_cap, open_cap
    int32_t cap;
};

constexpr int kMaxCandidates = 16;
constexpr int kMaxTried = 8;
constexpr int kMaxRuleErrors = 8;
constexpr int kMaxMisses = 8;

// One pool (or, as pool 0, a rule's own rep or a contact's known owner) that was asked for a taker.
struct Tried {
    int32_t pool;
    bool known; // with pool 0: the known owner of the lead's contact
    int32_t members;
    Measure measure;
    int32_t candidate_count;
    Candidate candidates[kMaxCandidates];
    int32_t others[kStates]; // members beyond the candidates, by state
};

struct RuleError {
    int64_t rule;
    char sqlstate[5];
};

struct Explanation {
    Note note;
    int32_t rule_error_count; // may exceed kMaxRuleErrors: only the first are kept
    RuleError rule_errors[kMaxRuleErrors];
    int32_t miss_count; // rules whose territory does not know the key; may exceed kMaxMisses
    int64_t misses[kMaxMisses];
    int32_t tried_count; // at most kMaxTried
    Tried tried[kMaxTried];
};

// Upper bound of encode()'s output.
constexpr int32_t kMaxEncoded = 8192;
// Writes the explanation to out (room for kMaxEncoded) and returns its length.
int32_t encode(const Explanation& explanation, uint8_t* out) noexcept;
// Writes the JSON of an encoded explanation, zero-terminated; returns its length, or -1 when the
// bytes are not an explanation or the room does not suffice (65536 always does).
int32_t to_json(const uint8_t* bytes, int32_t length, char* out, int32_t room) noexcept;

} // namespace leadroute::core
