// The index as it lies in memory, for rule_index*.cpp alone. Everything is an offset from its
// header.
#pragma once

#include "rule_index.h"

#include <cstring>

namespace leadroute::core {

constexpr std::uint32_t kNoGuard = UINT32_MAX;
constexpr std::uint64_t kMaskSeed = 0x9e3779b97f4a7c15;
constexpr std::uint64_t kPrefixSeed = 0xc2b2ae3d27d4eb4f;
constexpr std::uint64_t kNullSeed = 0x165667b19e3779f9;

// A rule under one hash, with a range that its lead must be in, where it has one.
struct Posting {
    std::uint32_t ordinal;
    std::uint32_t guard; // slot
    std::int64_t lo;
    std::int64_t hi;
};

// The rules under one hash: a list of postings, or in the place of it the only one.
struct Bucket {
    std::uint64_t hash;
    std::uint32_t first; // posting; of the only one: the ordinal
    std::uint32_t count; // 0: empty; kOnly and the guard: there is only one
    std::int64_t lo;
    std::int64_t hi;
};
static_assert(sizeof(Bucket) == 32);
constexpr std::uint32_t kOnly = 1u << 31; // also of a node's list

// The ranges of one slot: a segment tree over the values that begin or end one. Node n has the
// children 2n and 2n + 1 and lists the rules that span it and not its parent. A point stands at
// each inner node, so that the way from the root to a value's leaf is the search for the value:
// in `points` are the inner nodes' points, from 1 on, then the leaves, then the inner nodes.
struct TreeHeader {
    std::uint32_t slot;
    std::uint32_t leaves; // a power of two
    std::uint32_t point_count;
    std::uint32_t unused;
    std::uint64_t points;
};
struct TreeNode {
    std::uint32_t list; // in items: their number, then ordinals; kOnly and an ordinal; 0: none
    std::uint32_t up;   // the next node above that has a list; 0: none
};
static_assert(sizeof(TreeNode) == sizeof(std::int64_t));

// Where a node stands, counted from `points`.
inline std::uint64_t node_place(const TreeHeader* tree, std::uint32_t node) noexcept {
    return node >= tree->leaves ? node : std::uint64_t{2} * tree->leaves + node;
}

struct IndexHeader {
    std::uint32_t rule_count;
    std::uint32_t mask_count;
    std::uint32_t bucket_count; // a power of two
    std::uint32_t tree_count;
    std::uint32_t always_count;
    std::uint32_t unused;
    std::uint64_t masks, buckets, postings, trees, items, always;
    std::uint64_t used;  // slots that any atom asks for
    std::uint64_t given; // slots in masks
    std::uint64_t prefix_slots;
    std::uint64_t null_slots;
    std::uint64_t prefixes[kMaxSlots];

    template <typename T> const T* at(std::uint64_t offset) const noexcept {
        return reinterpret_cast<const T*>(reinterpret_cast<const char*>(this) + offset);
    }
    template <typename T> T* at(std::uint64_t offset) noexcept {
        return reinterpret_cast<T*>(reinterpret_cast<char*>(this) + offset);
    }
};

inline int lowest_bit(std::uint64_t bits) noexcept {
    return __builtin_ctzll(bits);
}

inline std::uint64_t mix(std::uint64_t a, std::uint64_t b) noexcept {
    std::uint64_t x = (a ^ (b + 0x9e3779b97f4a7c15)) * 0xff51afd7ed558ccd;
    x ^= x >> 32;
    x *= 0xc4ceb9fe1a85ec53;
    return x ^ (x >> 29);
}

inline std::uint64_t bytes_hash(const char* text, std::uint32_t length) noexcept {
    std::uint64_t hash = length;
    for (; length >= 8; text += 8, length -= 8) {
        std::uint64_t word;
        std::memcpy(&word, text, 8);
        hash = mix(hash, word);
    }
    std::uint64_t word = 0;
    std::memcpy(&word, text, length);
    return mix(hash, word);
}

inline std::uint64_t value_hash(int slot, const Value& value) noexcept {
    std::uint64_t hash = value.kind == ValueKind::text ? bytes_hash(value.text, value.length)
                                                       : static_cast<std::uint64_t>(value.lo);
    return mix(hash, static_cast<std::uint64_t>(slot));
}

inline std::uint64_t null_hash(int slot, bool null) noexcept {
    return mix(kNullSeed + (null ? 1 : 0), static_cast<std::uint64_t>(slot));
}

inline std::uint64_t prefix_step(std::uint64_t hash, char byte) noexcept {
    return (hash ^ static_cast<unsigned char>(byte)) * 0x100000001b3;
}

constexpr std::size_t cache_aligned(std::size_t bytes) noexcept {
    return (bytes + 63) & ~static_cast<std::size_t>(63);
}

// --- while it is made ---

struct Range {
    std::uint32_t slot;
    std::uint32_t ordinal;
    std::int64_t lo;
    std::int64_t hi;
};

// One slot's ranges and the points between which nothing begins or ends.
struct Tree {
    const Range* ranges;
    std::uint32_t count;
    std::int64_t* points;
    std::uint32_t point_count;
    std::uint32_t leaves;
};

// In rule_index_tree.cpp: how many ordinals its nodes list, the bytes of its points and nodes, and
// how they are written, where the header says; *used counts the items.
std::uint32_t tree_items(const Tree& tree) noexcept;
std::size_t tree_bytes(const Tree& tree) noexcept;
void write_tree(const Tree& tree, IndexHeader* index, const TreeHeader* header,
                std::uint32_t* used) noexcept;

} // namespace leadroute::core
