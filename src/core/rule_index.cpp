// Looking rules up; see rule_index.h, and rule_index_build.cpp for how the index is made.
#include "rule_index.h"
#include "rule_index_block.h"

#include <algorithm>

namespace leadroute::core {

namespace {

std::uint32_t bucket_of(std::uint64_t hash, std::uint32_t buckets) noexcept {
    return static_cast<std::uint32_t>(hash) & (buckets - 1);
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
        if (posting->guard != kNoGuard) {
            const Value& value = values_[posting->guard];
            if (value.kind == ValueKind::null || value.hi < posting->lo || value.lo > posting->hi)
                continue;
        }
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

void Probe::look_up(std::uint64_t hash) noexcept {
    const Bucket* buckets = index_->at<Bucket>(index_->buckets);
    for (std::uint32_t i = bucket_of(hash, index_->bucket_count);;
         i = (i + 1) & (index_->bucket_count - 1)) {
        if (buckets[i].count == 0)
            return;
        if (buckets[i].hash == hash) {
            add(index_->at<Posting>(index_->postings) + buckets[i].first, nullptr,
                buckets[i].count);
            return;
        }
    }
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
    const std::uint32_t* starts = index_->at<std::uint32_t>(tree->starts);
    const std::uint32_t* items = index_->at<std::uint32_t>(index_->items);
    for (std::uint32_t node = tree->leaves + leaf; node > 0; node /= 2)
        add(nullptr, items + starts[node], starts[node + 1] - starts[node]);
}

void Probe::add_ranges() noexcept {
    const TreeHeader* trees = index_->at<TreeHeader>(index_->trees);
    for (std::uint32_t i = 0; i < index_->tree_count; i++) {
        const TreeHeader* tree = &trees[i];
        const Value& value = values_[tree->slot];
        if (value.kind != ValueKind::number)
            continue;
        const std::int64_t* points = index_->at<std::int64_t>(tree->points);
        // leaf k holds what is from point k - 1 on and below point k
        std::uint32_t first = static_cast<std::uint32_t>(
            std::upper_bound(points, points + tree->point_count, value.lo) - points);
        std::uint32_t last = first;
        if (value.hi != value.lo)
            last = static_cast<std::uint32_t>(
                std::upper_bound(points, points + tree->point_count, value.hi) - points);
        for (std::uint32_t leaf = first; leaf <= last; leaf++)
            add_path(tree, leaf);
    }
}

void Probe::start(const void* index, const Value* values) noexcept {
    index_ = static_cast<const IndexHeader*>(index);
    values_ = values;
    count_ = 0;
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
    add_ranges();
    for (std::uint64_t rest = index_->null_slots; rest != 0; rest &= rest - 1) {
        int slot = lowest_bit(rest);
        look_up(null_hash(slot, values[slot].kind == ValueKind::null));
    }
    add(nullptr, index_->at<std::uint32_t>(index_->always), index_->always_count);
}

std::int64_t Probe::next() noexcept {
    if (everything_)
        return next_ < index_->rule_count ? static_cast<std::int64_t>(next_++) : -1;
    std::uint32_t least = UINT32_MAX;
    for (int i = 0; i < count_; i++)
        least = std::min(least, cursors_[i].ordinal);
    if (count_ == 0)
        return -1;
    for (int i = 0; i < count_;) {
        if (cursors_[i].ordinal == least && !advance(&cursors_[i]))
            cursors_[i] = cursors_[--count_];
        else if (cursors_[i].ordinal != least)
            i++;
    }
    return least;
}

} // namespace leadroute::core
