// Looking rules up; see rule_index.h, and rule_index_build.cpp for how the index is made.
#include "rule_index.h"
#include "rule_index_block.h"

#include <algorithm>

namespace leadroute::core {

namespace {

std::uint32_t bucket_of(std::uint64_t hash, std::uint32_t buckets) noexcept {
    return static_cast<std::uint32_t>(hash) & (buckets - 1);
}

bool admits(const Value& value, std::int64_t lo, std::int64_t hi) noexcept {
    return value.kind != ValueKind::null && value.hi >= lo && value.lo <= hi;
}

// The leaf of a value.
std::uint32_t leaf_of(const TreeHeader* tree, const std::int64_t* points,
                      std::int64_t value) noexcept {
    std::uint32_t node = 1;
    while (node < tree->leaves) {
        // three levels below, which are one cache line
        __builtin_prefetch(points + std::uint64_t{8} * node);
        node = 2 * node + (points[node] <= value ? 1 : 0);
    }
    return std::min(node, tree->leaves + tree->point_count);
}

} // namespace

// Moves on to the next posting that the lead's values do not rule out.
bool Probe::advance(Cursor* cursor) noexcept {
    if (cursor->item != nullptr) {
        if (cursor->left == 0)
            return false;
        cursor->left--;
        cursor->ordinal = *cursor->item++;
        return true;
    }
    while (cursor->left > 0) {
        cursor->left--;
        const Posting* posting = cursor->posting++;
        if (posting->guard != kNoGuard &&
            !admits(values_[posting->guard], posting->lo, posting->hi))
            continue;
        cursor->ordinal = posting->ordinal;
        return true;
    }
    return false;
}

void Probe::add(const Posting* posting, const std::uint32_t* item, std::uint32_t count) noexcept {
    if (count == 0)
        return;
    if (count_ == kCursors) {
        everything_ = true;
        return;
    }
    Cursor* cursor = &cursors_[count_];
    *cursor = {posting, item, count, 0};
    if (advance(cursor))
        count_++;
}

void Probe::add_only(std::uint32_t ordinal) noexcept {
    if (count_ == kCursors)
        everything_ = true;
    else
        cursors_[count_++] = {nullptr, nullptr, 0, ordinal};
}

void Probe::add_bucket(std::uint64_t hash) noexcept {
    const Bucket* buckets = index_->at<Bucket>(index_->buckets);
    std::uint32_t i = bucket_of(hash, index_->bucket_count);
    while (buckets[i].count != 0 && buckets[i].hash != hash)
        i = (i + 1) & (index_->bucket_count - 1);
    const Bucket& bucket = buckets[i];
    if (bucket.count < kOnly) {
        add(index_->at<Posting>(index_->postings) + bucket.first, nullptr, bucket.count);
        return;
    }
    std::uint32_t guard = bucket.count - kOnly;
    if (guard == kMaxSlots || admits(values_[guard], bucket.lo, bucket.hi))
        add_only(bucket.first);
}

// Asks for all buckets of a lead before it reads the first: each comes from far.
void Probe::look_up(std::uint64_t hash) noexcept {
    if (pending_count_ == kPending)
        look_up_pending();
    pending_[pending_count_++] = hash;
    __builtin_prefetch(index_->at<Bucket>(index_->buckets) + bucket_of(hash, index_->bucket_count));
}

void Probe::look_up_pending() noexcept {
    for (int i = 0; i < pending_count_; i++)
        add_bucket(pending_[i]);
    pending_count_ = 0;
}

void Probe::add_masks() noexcept {
    const std::uint64_t* masks = index_->at<std::uint64_t>(index_->masks);
    for (std::uint32_t i = 0; i < index_->mask_count; i++) {
        std::uint64_t mask = masks[i];
        if ((mask & index_->given) != mask)
            continue;
        std::uint64_t hash = kMaskSeed;
        bool usable = true;
        for (std::uint64_t rest = mask; rest != 0 && usable; rest &= rest - 1) {
            int slot = lowest_bit(rest);
            usable = values_[slot].kind != ValueKind::null;
            hash = mix(hash, hashes_[slot]);
        }
        if (usable)
            look_up(hash);
    }
}

void Probe::add_prefixes() noexcept {
    for (std::uint64_t rest = index_->prefix_slots; rest != 0; rest &= rest - 1) {
        int slot = lowest_bit(rest);
        const Value& value = values_[slot];
        if (value.kind != ValueKind::text)
            continue;
        std::uint64_t lengths = index_->prefixes[slot];
        std::uint64_t hash = kPrefixSeed + static_cast<std::uint64_t>(slot);
        for (std::uint32_t n = 1; n <= value.length && lengths != 0; n++, lengths >>= 1) {
            hash = prefix_step(hash, value.text[n - 1]);
            if ((lengths & 1) != 0)
                look_up(mix(hash, n));
        }
    }
}

// The lists on the way from a leaf to the root.
void Probe::add_path(const TreeHeader* tree, std::uint32_t leaf) noexcept {
    const TreeNode* nodes = index_->at<TreeNode>(tree->points);
    const std::uint32_t* items = index_->at<std::uint32_t>(index_->items);
    for (std::uint32_t at = leaf; at > 0;) {
        const TreeNode& node = nodes[node_place(tree, at)];
        if (node.list >= kOnly)
            add_only(node.list - kOnly);
        else if (node.list > 0)
            add(nullptr, items + node.list + 1, items[node.list]);
        at = node.up;
    }
}

void Probe::add_ranges() noexcept {
    const TreeHeader* trees = index_->at<TreeHeader>(index_->trees);
    for (std::uint32_t i = 0; i < index_->tree_count; i++) {
        const TreeHeader* tree = &trees[i];
        const Value& value = values_[tree->slot];
        if (value.kind != ValueKind::number)
            continue;
        const std::int64_t* points = index_->at<std::int64_t>(tree->points);
        std::uint32_t first = leaf_of(tree, points, value.lo);
        std::uint32_t last = value.hi == value.lo ? first : leaf_of(tree, points, value.hi);
        for (std::uint32_t leaf = first; leaf <= last; leaf++)
            add_path(tree, leaf);
    }
}

void Probe::add_nulls() noexcept {
    for (std::uint64_t rest = index_->null_slots; rest != 0; rest &= rest - 1) {
        int slot = lowest_bit(rest);
        look_up(null_hash(slot, values_[slot].kind == ValueKind::null));
    }
}

void Probe::start(const void* index, const Value* values) noexcept {
    index_ = static_cast<const IndexHeader*>(index);
    values_ = values;
    count_ = pending_count_ = 0;
    next_ = 0;
    everything_ = false;
    for (std::uint64_t rest = index_->used; rest != 0; rest &= rest - 1) {
        int slot = lowest_bit(rest);
        everything_ = everything_ || values[slot].kind == ValueKind::unknown;
        if ((index_->given >> slot & 1) == 0 || values[slot].kind == ValueKind::null)
            continue;
        // what is not known exactly has no hash
        everything_ = everything_ || values[slot].lo != values[slot].hi;
        hashes_[slot] = value_hash(slot, values[slot]);
    }
    if (everything_)
        return;
    add_masks();
    add_prefixes();
    add_nulls();
    add_ranges();
    look_up_pending();
    add(nullptr, index_->at<std::uint32_t>(index_->always), index_->always_count);
    settle();
}

// Finds the cursor that is first, and up to where it stays so.
void Probe::settle() noexcept {
    front_ = 0;
    limit_ = UINT32_MAX;
    for (int i = 1; i < count_; i++) {
        bool before = cursors_[i].ordinal < cursors_[front_].ordinal;
        limit_ = std::min(limit_, cursors_[before ? front_ : i].ordinal);
        front_ = before ? i : front_;
    }
}

std::int64_t Probe::next() noexcept {
    if (everything_)
        return next_ < index_->rule_count ? static_cast<std::int64_t>(next_++) : -1;
    if (count_ == 0)
        return -1;
    std::uint32_t least = cursors_[front_].ordinal;
    if (least < limit_) {
        bool more = advance(&cursors_[front_]);
        // a rule may be here several times, for its alternatives
        while (more && cursors_[front_].ordinal == least)
            more = advance(&cursors_[front_]);
        if (more && cursors_[front_].ordinal < limit_)
            return least;
        if (!more)
            cursors_[front_] = cursors_[--count_];
    } else {
        for (int i = 0; i < count_;) {
            if (cursors_[i].ordinal == least && !advance(&cursors_[i]))
                cursors_[i] = cursors_[--count_];
            else if (cursors_[i].ordinal != least)
                i++;
        }
    }
    settle();
    return least;
}

} // namespace leadroute::core
