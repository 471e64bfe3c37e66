// Predicates and indexes for tests and benchmarks, made of strings and vectors.
#pragma once

#include "rule_index.h"

#include <cstring>
#include <string>
#include <vector>

namespace leadroute::test {

struct AtomSpec {
    core::AtomKind kind;
    int slot;
    std::vector<std::int64_t> numbers; // sorted; of a range: lo, hi
    std::vector<std::string> texts;
};
struct AlternativeSpec {
    std::vector<AtomSpec> atoms;
    bool exact = true;
};
using RuleSpec = std::vector<AlternativeSpec>;

inline AtomSpec in(int slot, std::vector<std::int64_t> numbers) {
    return {core::AtomKind::numbers, slot, std::move(numbers), {}};
}
inline AtomSpec in(int slot, std::vector<std::string> texts) {
    return {core::AtomKind::texts, slot, {}, std::move(texts)};
}
inline AtomSpec between(int slot, std::int64_t lo, std::int64_t hi) {
    return {core::AtomKind::range, slot, {lo, hi}, {}};
}
inline AtomSpec begins(int slot, std::string text) {
    return {core::AtomKind::prefix, slot, {}, {std::move(text)}};
}
inline AtomSpec is_null(int slot, bool null) {
    return {null ? core::AtomKind::null : core::AtomKind::present, slot, {}, {}};
}

class Predicates {
  public:
    void add(const RuleSpec& rule) {
        std::vector<core::Alternative> alternatives;
        std::vector<core::Atom> atoms;
        for (const AlternativeSpec& one : rule)
            atoms.resize(atoms.size() + one.atoms.size());
        std::size_t head = sizeof(core::Predicate) + sizeof(core::Alternative) * rule.size() +
                           sizeof(core::Atom) * atoms.size();
        std::string data;
        std::size_t next = 0;
        for (const AlternativeSpec& one : rule) {
            alternatives.push_back({static_cast<std::uint32_t>(next),
                                    static_cast<std::uint16_t>(one.atoms.size()), one.exact});
            for (const AtomSpec& atom : one.atoms)
                atoms[next++] = make(atom, head, &data);
        }
        data.resize((data.size() + 7) / 8 * 8);
        core::Predicate predicate = {static_cast<std::uint32_t>(head + data.size()),
                                     static_cast<std::uint16_t>(rule.size()),
                                     static_cast<std::uint16_t>(atoms.size())};
        std::vector<std::uint64_t> memory(predicate.size / 8);
        char* at = reinterpret_cast<char*>(memory.data());
        auto put = [&at](const void* bytes, std::size_t size) {
            if (size > 0)
                std::memcpy(at, bytes, size);
            at += size;
        };
        put(&predicate, sizeof(predicate));
        put(alternatives.data(), sizeof(core::Alternative) * alternatives.size());
        put(atoms.data(), sizeof(core::Atom) * atoms.size());
        put(data.data(), data.size());
        memories_.push_back(std::move(memory));
        rules_.push_back(reinterpret_cast<const core::Predicate*>(memories_.back().data()));
    }

    const void* index() {
        core::IndexBuild build = {};
        build.rules = rules_.data();
        build.rule_count = static_cast<std::uint32_t>(rules_.size());
        std::vector<std::uint64_t> scratch(core::index_scratch(&build) / 8 + 1);
        build.scratch = scratch.data();
        index_.assign(core::index_plan(&build) / 8 + 1, 0xababababababababu);
        index_.back() = kFence;
        core::index_write(&build, index_.data());
        return index_.data();
    }
    bool fence_stands() const { return index_.back() == kFence; }
    std::size_t index_bytes() const { return index_.size() * 8; }
    const core::Predicate& operator[](std::size_t i) const { return *rules_[i]; }
    std::size_t size() const { return rules_.size(); }

  private:
    static constexpr std::uint64_t kFence = 0x1234567890abcdef;

    static core::Atom make(const AtomSpec& spec, std::size_t head, std::string* data) {
        core::Atom atom = {static_cast<std::uint16_t>(spec.slot), spec.kind, 0, 0, 0};
        auto place = [&](const void* bytes, std::size_t size) {
            data->resize((data->size() + 7) / 8 * 8);
            std::size_t offset = head + data->size();
            data->append(static_cast<const char*>(bytes), size);
            return offset;
        };
        if (spec.kind == core::AtomKind::range) {
            atom.lo = spec.numbers[0];
            atom.hi = spec.numbers[1];
        } else if (spec.kind == core::AtomKind::numbers) {
            atom.count = static_cast<std::uint32_t>(spec.numbers.size());
            atom.hi = static_cast<std::int64_t>(
                place(spec.numbers.data(), sizeof(std::int64_t) * spec.numbers.size()));
        } else if (spec.kind == core::AtomKind::prefix) {
            atom.count = static_cast<std::uint32_t>(spec.texts[0].size());
            atom.hi = static_cast<std::int64_t>(place(spec.texts[0].data(), spec.texts[0].size()));
        } else if (spec.kind == core::AtomKind::texts) {
            std::vector<core::TextRef> refs;
            for (const std::string& text : spec.texts)
                refs.push_back({static_cast<std::uint32_t>(place(text.data(), text.size())),
                                static_cast<std::uint32_t>(text.size())});
            atom.count = static_cast<std::uint32_t>(refs.size());
            atom.hi =
                static_cast<std::int64_t>(place(refs.data(), sizeof(core::TextRef) * refs.size()));
        }
        return atom;
    }

    std::vector<std::vector<std::uint64_t>> memories_;
    std::vector<const core::Predicate*> rules_;
    std::vector<std::uint64_t> index_;
};

} // namespace leadroute::test
