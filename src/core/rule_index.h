// Which of very many rules a lead may match, found by the lead's own values.
//
// What can be told of a rule without evaluating its expression is a Predicate: alternatives, each
// a conjunction of atoms over slots (a column, or a simple function of one). From the predicates of
// a set of rules build() makes one flat block of memory without pointers, which any number of
// processes may read at any address. A Probe gives the rules that one lead may match, in ascending
// order, without allocating anything, and only as far as it is asked.
//
// Whatever the keys do, the verdict on a rule is evaluate()'s: yes and no are certain; unknown
// means that the rule's expression has to be evaluated.
#pragma once

#include <cstddef>
#include <cstdint>

namespace leadroute::core {

constexpr int kMaxSlots = 64;

// --- predicates ---

enum class AtomKind : std::uint8_t {
    numbers, // one of a sorted list
    texts,   // one of a list, by bytes
    range,   // lo <= value <= hi
    prefix,  // the text begins with this
    null,
    present // not null
};

// Texts and lists stand behind the atoms, at an offset from the predicate's start.
struct Atom {
    std::uint16_t slot;
    AtomKind kind;
    std::uint32_t count; // numbers, texts: of the list; prefix: bytes
    std::int64_t lo;     // range
    std::int64_t hi;     // range; numbers, texts, prefix: the offset
};
struct TextRef {
    std::uint32_t offset;
    std::uint32_t length;
};
struct Alternative {
    std::uint32_t first; // atom
    std::uint16_t count;
    bool exact; // it holds if its atoms do; otherwise it may
};
// Followed by its alternatives and its atoms. Without an alternative it never holds; one without
// atoms holds, or may hold, for every lead.
struct Predicate {
    std::uint32_t size; // in bytes, a multiple of 8
    std::uint16_t alternatives;
    std::uint16_t atoms;

    const Alternative* alternative(int i) const noexcept {
        return reinterpret_cast<const Alternative*>(this + 1) + i;
    }
    const Atom* atom(std::uint32_t i) const noexcept {
        return reinterpret_cast<const Atom*>(alternative(alternatives)) + i;
    }
    template <typename T> const T* at(std::int64_t offset) const noexcept {
        return reinterpret_cast<const T*>(reinterpret_cast<const char*>(this) + offset);
    }
};
static_assert(sizeof(Predicate) == 8 && sizeof(Alternative) == 8 && sizeof(Atom) == 24);

// --- a lead ---

enum class ValueKind : std::uint8_t { null, number, text, unknown };

// Of one slot. A number that is not known exactly is between lo and hi.
struct Value {
    ValueKind kind;
    std::uint32_t length;
    std::int64_t lo;
    std::int64_t hi;
    const char* text;
};
inline Value null_value() noexcept {
    return {ValueKind::null, 0, 0, 0, nullptr};
}
inline Value number_value(std::int64_t n) noexcept {
    return {ValueKind::number, 0, n, n, nullptr};
}
inline Value text_value(const char* text, std::uint32_t length) noexcept {
    return {ValueKind::text, length, 0, 0, text};
}
inline Value unknown_value() noexcept {
    return {ValueKind::unknown, 0, 0, 0, nullptr};
}

// Numbers with a fraction as integers in the same order: -0 is 0, NaN equals itself and is the
// greatest. Between two neighbours there is no other number.
std::int64_t ordered(double value) noexcept;

enum class Verdict : std::uint8_t { no, yes, unknown };
Verdict evaluate(const Predicate& predicate, const Value* values) noexcept;

// --- the index ---

// Rules are known by their ordinals, the places of their predicates in the array.
struct IndexBuild {
    const Predicate* const* rules;
    std::uint32_t rule_count;
    void* scratch;
    // of scratch and of what is found on the way; internal
    std::uint32_t entry_room, range_room;
    std::uint32_t entries, ranges, buckets, always;
    std::uint32_t trees, tree_items;
    std::size_t tree_bytes;
    std::uint64_t masks[2 * kMaxSlots]; // of slots that are keyed together
    std::uint32_t mask_count;
    std::uint64_t prefixes[kMaxSlots]; // lengths in use, a bit each
    std::uint64_t range_slots;
};
// The bytes of scratch memory that building takes, to be put into build->scratch, zeroed or not.
std::size_t index_scratch(IndexBuild* build) noexcept;
// The bytes of the index.
std::size_t index_plan(IndexBuild* build) noexcept;
void index_write(IndexBuild* build, void* index) noexcept;

struct Posting;
struct IndexHeader;

// The rules that a lead may match. `values` must outlive it.
class Probe {
  public:
    void start(const void* index, const Value* values) noexcept;
    // The next ordinal; -1: no more.
    std::int64_t next() noexcept;

  private:
    struct Cursor {
        const Posting* posting; // or
        const std::uint32_t* item;
        std::uint32_t left;
        std::uint32_t ordinal; // at hand
    };
    static constexpr int kCursors = 192;
    static constexpr int kPending = 32;

    bool advance(Cursor* cursor) noexcept;
    void add(const Posting* posting, const std::uint32_t* item, std::uint32_t count) noexcept;
    void add_only(std::uint32_t ordinal) noexcept;
    void add_bucket(std::uint64_t hash) noexcept;
    void look_up(std::uint64_t hash) noexcept;
    void look_up_pending() noexcept;
    void add_masks() noexcept;
    void add_prefixes() noexcept;
    void add_nulls() noexcept;
    void add_ranges() noexcept;
    void add_path(const struct TreeHeader* tree, std::uint32_t leaf) noexcept;
    void settle() noexcept;

    const IndexHeader* index_;
    const Value* values_;
    std::uint64_t hashes_[kMaxSlots];
    std::uint64_t pending_[kPending]; // hashes whose buckets are on their way from memory
    int pending_count_;
    Cursor cursors_[kCursors];
    int count_;
    int front_;           // the cursor that is first
    std::uint32_t limit_; // and the least ordinal of the others
    bool everything_;     // the lead cannot be told apart: all rules
    std::uint32_t next_;
};

} // namespace leadroute::core
