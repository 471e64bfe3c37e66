// What a predicate says of a lead; see rule_index.h.
#include "rule_index.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace leadroute::core {

std::int64_t ordered(double value) noexcept {
    if (std::isnan(value))
        return std::numeric_limits<std::int64_t>::max() - 1;
    if (value == 0)
        value = 0; // of -0, too
    std::int64_t bits;
    std::memcpy(&bits, &value, sizeof(bits));
    return bits >= 0 ? bits : std::numeric_limits<std::int64_t>::min() - bits;
}

namespace {

Verdict in_range(const Value& value, std::int64_t lo, std::int64_t hi) noexcept {
    if (value.hi < lo || value.lo > hi)
        return Verdict::no;
    return value.lo >= lo && value.hi <= hi ? Verdict::yes : Verdict::unknown;
}

Verdict among_numbers(const Predicate& predicate, const Atom& atom, const Value& value) noexcept {
    const std::int64_t* list = predicate.at<std::int64_t>(atom.hi);
    const std::int64_t* end = list + atom.count;
    const std::int64_t* found =
        atom.count == 1 ? (value.lo <= *list ? list : end) : std::lower_bound(list, end, value.lo);
    if (found == end || *found > value.hi)
        return Verdict::no;
    return value.lo == value.hi ? Verdict::yes : Verdict::unknown;
}

bool among_texts(const Predicate& predicate, const Atom& atom, const Value& value) noexcept {
    const TextRef* list = predicate.at<TextRef>(atom.hi);
    for (std::uint32_t i = 0; i < atom.count; i++)
        if (list[i].length == value.length &&
            std::memcmp(predicate.at<char>(list[i].offset), value.text, value.length) == 0)
            return true;
    return false;
}

Verdict holds(const Predicate& predicate, const Atom& atom, const Value& value) noexcept {
    if (value.kind == ValueKind::unknown)
        return Verdict::unknown;
    bool null = value.kind == ValueKind::null;
    switch (atom.kind) {
    case AtomKind::null:
        return null ? Verdict::yes : Verdict::no;
    case AtomKind::present:
        return null ? Verdict::no : Verdict::yes;
    case AtomKind::numbers:
        return null ? Verdict::no : among_numbers(predicate, atom, value);
    case AtomKind::range:
        return null ? Verdict::no : in_range(value, atom.lo, atom.hi);
    case AtomKind::texts:
        return !null && among_texts(predicate, atom, value) ? Verdict::yes : Verdict::no;
    case AtomKind::prefix:
        return !null && value.length >= atom.count &&
                       std::memcmp(value.text, predicate.at<char>(atom.hi), atom.count) == 0
                   ? Verdict::yes
                   : Verdict::no;
    }
    return Verdict::unknown;
}

} // namespace

Verdict evaluate(const Predicate& predicate, const Value* values) noexcept {
    Verdict all = Verdict::no;
    for (int i = 0; i < predicate.alternatives; i++) {
        const Alternative* alternative = predicate.alternative(i);
        Verdict verdict = alternative->exact ? Verdict::yes : Verdict::unknown;
        for (std::uint32_t k = 0; k < alternative->count && verdict != Verdict::no; k++) {
            const Atom* atom = predicate.atom(alternative->first + k);
            Verdict one = holds(predicate, *atom, values[atom->slot]);
            if (one != Verdict::yes)
                verdict = one;
        }
        if (verdict == Verdict::yes)
            return verdict;
        if (verdict == Verdict::unknown)
            all = verdict;
    }
    return all;
}

} // namespace leadroute::core
