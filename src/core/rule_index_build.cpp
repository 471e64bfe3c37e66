// Making the index of a set of rules; see rule_index.h.
//
// Each alternative of a rule is filed under one key: the values of all columns that it compares
// for equality together, a prefix, a range, or a test for NULL; the first of them that few enough
// rules share. One without any is met by every lead.
#include "rule_index.h"
#include "rule_index_block.h"

#include <algorithm>

namespace leadroute::core {

namespace {

constexpr std::uint32_t kProduct = 64;       // most combinations of values keyed together
constexpr std::uint32_t kManyValues = 65536; // of one list
constexpr std::uint32_t kKept = 12;          // combinations of columns
constexpr std::uint32_t kCrowd = 256;        // rules under one key, from which on a range is better
constexpr std::uint32_t kPrefixBytes = 48;
constexpr std::uint32_t kSketch = 1u << 16;

struct Entry {
    std::uint64_t hash;
    Posting posting;
};
struct Scratch {
    Entry* entries;
    Range* ranges;
    std::uint32_t* always;
    std::int64_t* points;
    std::uint32_t* sketch; // how many keys share a hash, about
};

constexpr std::size_t aligned(std::size_t bytes) noexcept {
    return (bytes + 7) & ~static_cast<std::size_t>(7);
}

Scratch scratch_of(const IndexBuild* build) noexcept {
    char* at = static_cast<char*>(build->scratch);
    Scratch s;
    s.sketch = reinterpret_cast<std::uint32_t*>(at);
    at += sizeof(std::uint32_t) * kSketch;
    s.entries = reinterpret_cast<Entry*>(at);
    at += sizeof(Entry) * build->entry_room;
    s.ranges = reinterpret_cast<Range*>(at);
    at += sizeof(Range) * build->range_room;
    s.points = reinterpret_cast<std::int64_t*>(at);
    at += sizeof(std::int64_t) * 2 * build->range_room;
    s.always = reinterpret_cast<std::uint32_t*>(at);
    return s;
}

bool is_list(const Atom& atom) noexcept {
    return (atom.kind == AtomKind::numbers || atom.kind == AtomKind::texts) &&
           atom.count <= kManyValues;
}

// An alternative at hand, with what it could be filed under.
struct Choice {
    const Predicate* rule;
    const Alternative* alternative;
    std::uint64_t mask;           // columns compared for equality, as far as they are few values
    const Atom* lists[kMaxSlots]; // by slot
    std::uint32_t product;
    const Atom* shortest; // of all lists
    const Atom* prefix;
    const Atom* range;
    const Atom* null;
};

void take_lists(Choice* c, const Atom* const* lists, int count) noexcept {
    c->mask = 0;
    c->product = 1;
    for (int i = 0; i < count; i++) {
        std::uint64_t bit = std::uint64_t{1} << lists[i]->slot;
        if ((c->mask & bit) != 0 || lists[i]->count == 0 ||
            (c->mask != 0 && c->product * lists[i]->count > kProduct))
            continue;
        c->mask |= bit;
        c->product *= lists[i]->count;
        c->lists[lists[i]->slot] = lists[i];
    }
}

bool two_sided(const Atom* atom) noexcept {
    return atom->lo > INT64_MIN + 1 && atom->hi < INT64_MAX - 1;
}

Choice choices(const Predicate* rule, const Alternative* alternative) noexcept {
    Choice c = {};
    c.rule = rule;
    c.alternative = alternative;
    const Atom* lists[kMaxSlots];
    int list_count = 0;
    for (std::uint32_t i = 0; i < alternative->count; i++) {
        const Atom* atom = rule->atom(alternative->first + i);
        if (is_list(*atom) && list_count < kMaxSlots)
            lists[list_count++] = atom;
        else if (atom->kind == AtomKind::prefix && atom->count > 0 &&
                 (c.prefix == nullptr || atom->count > c.prefix->count))
            c.prefix = atom;
        else if (atom->kind == AtomKind::range &&
                 (c.range == nullptr || (two_sided(atom) && !two_sided(c.range))))
            c.range = atom;
        else if (atom->kind == AtomKind::null || atom->kind == AtomKind::present)
            c.null = c.null != nullptr && c.null->kind == AtomKind::null ? c.null : atom;
    }
    std::sort(lists, lists + list_count,
              [](const Atom* a, const Atom* b) { return a->count < b->count; });
    c.shortest = list_count > 0 ? lists[0] : nullptr;
    take_lists(&c, lists, list_count);
    return c;
}

bool kept_mask(const IndexBuild* build, std::uint64_t mask) noexcept {
    for (std::uint32_t i = 0; i < build->mask_count; i++)
        if (build->masks[i] == mask)
            return true;
    return false;
}

// Falls back to the shortest list alone where the combination is rare.
void settle_mask(const IndexBuild* build, Choice* c) noexcept {
    if (c->mask == 0 || kept_mask(build, c->mask))
        return;
    take_lists(c, &c->shortest, 1);
}

std::uint64_t list_hash(const Choice& c, const Atom* atom, std::uint32_t i) noexcept {
    Value value;
    if (atom->kind == AtomKind::numbers) {
        value = number_value(c.rule->at<std::int64_t>(atom->hi)[i]);
    } else {
        const TextRef* text = c.rule->at<TextRef>(atom->hi) + i;
        value = text_value(c.rule->at<char>(text->offset), text->length);
    }
    return value_hash(atom->slot, value);
}

// Hash of the n-th combination of values.
std::uint64_t combination(const Choice& c, std::uint32_t n) noexcept {
    std::uint64_t hash = kMaskSeed;
    for (std::uint64_t rest = c.mask; rest != 0; rest &= rest - 1) {
        const Atom* atom = c.lists[lowest_bit(rest)];
        hash = mix(hash, list_hash(c, atom, n % atom->count));
        n /= atom->count;
    }
    return hash;
}

std::uint64_t prefix_hash(const Choice& c) noexcept {
    std::uint32_t length = std::min(c.prefix->count, kPrefixBytes);
    std::uint64_t hash = kPrefixSeed + c.prefix->slot;
    const char* text = c.rule->at<char>(c.prefix->hi);
    for (std::uint32_t i = 0; i < length; i++)
        hash = prefix_step(hash, text[i]);
    return mix(hash, length);
}

template <typename Each> void for_each(const IndexBuild* build, Each each) noexcept {
    for (std::uint32_t i = 0; i < build->rule_count; i++)
        for (int k = 0; k < build->rules[i]->alternatives; k++) {
            Choice c = choices(build->rules[i], build->rules[i]->alternative(k));
            each(i, c);
        }
}

// The combinations of columns that most rules ask for, and each list's column by itself.
void choose_masks(IndexBuild* build) noexcept {
    constexpr std::uint32_t kCounted = 64;
    std::uint64_t masks[kCounted];
    std::uint32_t counts[kCounted];
    std::uint32_t known = 0;
    std::uint64_t single = 0;
    for_each(build, [&](std::uint32_t, const Choice& c) {
        if (c.mask == 0)
            return;
        single |= std::uint64_t{1} << c.shortest->slot;
        std::uint32_t i = 0;
        while (i < known && masks[i] != c.mask)
            i++;
        if (i == known && known < kCounted) {
            masks[known] = c.mask;
            counts[known++] = 0;
        }
        if (i < known)
            counts[i]++;
    });
    build->mask_count = 0;
    for (; single != 0; single &= single - 1)
        build->masks[build->mask_count++] = single & -single;
    for (std::uint32_t kept = 0; kept < kKept; kept++) {
        std::uint32_t best = known;
        for (std::uint32_t i = 0; i < known; i++)
            if (counts[i] > 0 && (best == known || counts[i] > counts[best]))
                best = i;
        if (best == known)
            break;
        counts[best] = 0;
        if (!kept_mask(build, masks[best]))
            build->masks[build->mask_count++] = masks[best];
    }
}

std::uint32_t* crowd(const Scratch& s, std::uint64_t hash) noexcept {
    return &s.sketch[hash >> 48 & (kSketch - 1)];
}

void count_crowds(const IndexBuild* build, const Scratch& s) noexcept {
    std::memset(s.sketch, 0, sizeof(std::uint32_t) * kSketch);
    for_each(build, [&](std::uint32_t, Choice& c) {
        settle_mask(build, &c);
        for (std::uint32_t n = 0; c.mask != 0 && n < c.product; n++)
            ++*crowd(s, combination(c, n));
        if (c.prefix != nullptr)
            ++*crowd(s, prefix_hash(c));
    });
}

void add_entry(IndexBuild* build, const Scratch& s, std::uint32_t ordinal, std::uint64_t hash,
               const Atom* guard) noexcept {
    Posting posting = {ordinal, kNoGuard, 0, 0};
    if (guard != nullptr)
        posting = {ordinal, guard->slot, guard->lo, guard->hi};
    s.entries[build->entries++] = {hash, posting};
}

void file_under_prefix(IndexBuild* build, const Scratch& s, std::uint32_t ordinal,
                       const Choice& c) noexcept {
    add_entry(build, s, ordinal, prefix_hash(c), c.range);
    build->prefixes[c.prefix->slot] |= std::uint64_t{1}
                                       << (std::min(c.prefix->count, kPrefixBytes) - 1);
}

void file(IndexBuild* build, const Scratch& s, std::uint32_t ordinal, Choice& c) noexcept {
    settle_mask(build, &c);
    std::uint32_t share = 0;
    for (std::uint32_t n = 0; c.mask != 0 && n < c.product; n++)
        share = std::max(share, *crowd(s, combination(c, n)));
    bool range = c.range != nullptr && two_sided(c.range);
    bool prefix = c.prefix != nullptr && (c.mask == 0 || *crowd(s, prefix_hash(c)) < share / 2);
    if (prefix && c.mask != 0 && share <= kCrowd)
        prefix = false;
    if (prefix && !(range && *crowd(s, prefix_hash(c)) > kCrowd)) {
        file_under_prefix(build, s, ordinal, c);
    } else if (c.mask != 0 && !(range && share > kCrowd)) {
        for (std::uint32_t n = 0; n < c.product; n++)
            add_entry(build, s, ordinal, combination(c, n), c.range);
    } else if (c.range != nullptr) {
        s.ranges[build->ranges++] = {c.range->slot, ordinal, c.range->lo, c.range->hi};
    } else if (c.null != nullptr) {
        add_entry(build, s, ordinal, null_hash(c.null->slot, c.null->kind == AtomKind::null),
                  nullptr);
    } else if (build->always == 0 || s.always[build->always - 1] != ordinal) {
        s.always[build->always++] = ordinal;
    }
}

std::uint32_t power_above(std::uint32_t n) noexcept {
    std::uint32_t power = 1;
    while (power < n)
        power *= 2;
    return power;
}

// --- ranges ---

template <typename Each>
void for_each_tree(const IndexBuild* build, const Scratch& s, Each each) noexcept {
    for (std::uint32_t first = 0; first < build->ranges;) {
        Tree tree = {&s.ranges[first], 0, s.points, 0, 0};
        while (first < build->ranges && s.ranges[first].slot == tree.ranges->slot) {
            const Range& range = s.ranges[first++];
            tree.count++;
            tree.points[tree.point_count++] = range.lo;
            if (range.hi < INT64_MAX)
                tree.points[tree.point_count++] = range.hi + 1;
        }
        std::sort(tree.points, tree.points + tree.point_count);
        tree.point_count = static_cast<std::uint32_t>(
            std::unique(tree.points, tree.points + tree.point_count) - tree.points);
        tree.leaves = power_above(tree.point_count + 1);
        each(tree);
    }
}

void write_trees(const IndexBuild* build, IndexHeader* index, std::uint64_t at) noexcept {
    Scratch s = scratch_of(build);
    TreeHeader* header = index->at<TreeHeader>(index->trees);
    std::uint32_t used = 1; // no list begins at 0
    for_each_tree(build, s, [&](const Tree& tree) {
        *header = {tree.ranges->slot, tree.leaves, tree.point_count, 0, at};
        write_tree(tree, index, header, &used);
        at += tree_bytes(tree);
        header++;
        index->tree_count++;
    });
}

// --- hashed keys ---

void write_buckets(const IndexBuild* build, IndexHeader* index) noexcept {
    Scratch s = scratch_of(build);
    Bucket* buckets = index->at<Bucket>(index->buckets);
    Posting* postings = index->at<Posting>(index->postings);
    std::memset(static_cast<void*>(buckets), 0, sizeof(Bucket) * index->bucket_count);
    for (std::uint32_t first = 0; first < build->entries;) {
        std::uint32_t end = first;
        for (; end < build->entries && s.entries[end].hash == s.entries[first].hash; end++)
            postings[end] = s.entries[end].posting;
        const Posting& only = postings[first];
        std::uint64_t hash = s.entries[first].hash;
        std::uint32_t i = static_cast<std::uint32_t>(hash) & (index->bucket_count - 1);
        while (buckets[i].count != 0)
            i = (i + 1) & (index->bucket_count - 1);
        if (end - first > 1)
            buckets[i] = {hash, first, end - first, 0, 0};
        else
            buckets[i] = {hash, only.ordinal,
                          kOnly + std::min<std::uint32_t>(only.guard, kMaxSlots), only.lo, only.hi};
        first = end;
    }
}

void note_slots(const IndexBuild* build, IndexHeader* index) noexcept {
    for (std::uint32_t i = 0; i < build->mask_count; i++)
        index->given |= build->masks[i];
    for_each(build, [&](std::uint32_t, const Choice& c) {
        for (std::uint32_t i = 0; i < c.alternative->count; i++) {
            const Atom* atom = c.rule->atom(c.alternative->first + i);
            index->used |= std::uint64_t{1} << atom->slot;
            if (atom->kind == AtomKind::null || atom->kind == AtomKind::present)
                index->null_slots |= std::uint64_t{1} << atom->slot;
        }
    });
    for (int slot = 0; slot < kMaxSlots; slot++) {
        index->prefixes[slot] = build->prefixes[slot];
        if (build->prefixes[slot] != 0)
            index->prefix_slots |= std::uint64_t{1} << slot;
    }
}

// Gives where the trees begin. What a lead reads a little of begins with a cache line.
std::uint64_t lay_out(const IndexBuild* build, IndexHeader* index) noexcept {
    std::uint64_t at = sizeof(IndexHeader);
    auto section = [&](std::uint64_t* offset, std::size_t bytes) {
        *offset = at;
        at += aligned(bytes);
    };
    section(&index->masks, sizeof(std::uint64_t) * build->mask_count);
    section(&index->trees, sizeof(TreeHeader) * build->trees);
    section(&index->items, sizeof(std::uint32_t) * build->tree_items);
    section(&index->always, sizeof(std::uint32_t) * build->always);
    section(&index->postings, sizeof(Posting) * build->entries);
    at = cache_aligned(at);
    section(&index->buckets, sizeof(Bucket) * build->buckets);
    return cache_aligned(at);
}

} // namespace

std::size_t index_scratch(IndexBuild* build) noexcept {
    build->entry_room = build->range_room = 0;
    for_each(build, [&](std::uint32_t, const Choice& c) {
        build->entry_room +=
            std::max(c.mask == 0 ? 1 : c.product, c.shortest == nullptr ? 1 : c.shortest->count);
        build->range_room++;
    });
    return sizeof(std::uint32_t) * kSketch + sizeof(Entry) * build->entry_room +
           (sizeof(Range) + 2 * sizeof(std::int64_t)) * build->range_room +
           aligned(sizeof(std::uint32_t) * (build->rule_count + 1));
}

std::size_t index_plan(IndexBuild* build) noexcept {
    Scratch s = scratch_of(build);
    build->entries = build->ranges = build->always = 0;
    build->tree_items = 0;
    build->tree_bytes = 0;
    std::memset(build->prefixes, 0, sizeof(build->prefixes));
    choose_masks(build);
    count_crowds(build, s);
    for_each(build, [&](std::uint32_t i, Choice& c) { file(build, s, i, c); });
    std::sort(s.entries, s.entries + build->entries, [](const Entry& a, const Entry& b) {
        return a.hash != b.hash ? a.hash < b.hash : a.posting.ordinal < b.posting.ordinal;
    });
    std::sort(s.ranges, s.ranges + build->ranges, [](const Range& a, const Range& b) {
        return a.slot != b.slot ? a.slot < b.slot : a.ordinal < b.ordinal;
    });
    std::uint32_t trees = 0;
    for_each_tree(build, s, [&](const Tree& tree) {
        trees++;
        build->tree_bytes += tree_bytes(tree);
        build->tree_items += tree_items(tree);
    });
    build->buckets = power_above(2 * build->entries + 2);
    // a list of two and more has its length before it
    build->tree_items += build->tree_items / 2 + 1;
    build->trees = trees;
    IndexHeader header = {};
    return lay_out(build, &header) + build->tree_bytes;
}

void index_write(IndexBuild* build, void* place) noexcept {
    Scratch s = scratch_of(build);
    IndexHeader* index = static_cast<IndexHeader*>(place);
    std::memset(static_cast<void*>(index), 0, sizeof(*index));
    index->rule_count = build->rule_count;
    index->mask_count = build->mask_count;
    index->bucket_count = build->buckets;
    index->always_count = build->always;
    std::uint64_t at = lay_out(build, index);
    std::memcpy(index->at<std::uint64_t>(index->masks), build->masks,
                sizeof(std::uint64_t) * build->mask_count);
    std::memcpy(index->at<std::uint32_t>(index->always), s.always,
                sizeof(std::uint32_t) * build->always);
    note_slots(build, index);
    write_buckets(build, index);
    write_trees(build, index, at);
}

} // namespace leadroute::core
