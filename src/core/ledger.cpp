// The ledger's block is entries, then levels, then hash buckets. A hash chain finds the entry of a
// (level, key); a list per level finds the entries of a level. The hash knows a level by its tag,
// so that a level can be renamed or swapped with its parent without touching its entries.
#include "ledger.h"

#include <algorithm>
#include <bit>

namespace leadroute::core {

namespace {

constexpr int32_t kNone = -1;

int32_t buckets_for(int32_t capacity) noexcept {
    return static_cast<int32_t>(std::bit_ceil(static_cast<uint32_t>(std::max(capacity, 1))));
}

uint64_t mix(uint64_t hash, uint64_t value) noexcept {
    hash = (hash ^ value) * 0x9e3779b97f4a7c15u;
    return hash ^ (hash >> 32);
}

bool same(const LedgerKey& a, const LedgerKey& b) noexcept {
    return a.rep == b.rep && a.state == b.state && a.pool == b.pool && a.day == b.day &&
           a.effect == b.effect;
}

} // namespace

size_t Ledger::block_size(int32_t capacity) noexcept {
    return static_cast<size_t>(capacity) * (sizeof(LedgerEntry) + sizeof(LedgerLevel)) +
           static_cast<size_t>(buckets_for(capacity)) * sizeof(int32_t);
}

int32_t* Ledger::bucket_of(const LedgerKey& key, uint32_t tag) const noexcept {
    uint64_t hash = mix(0, static_cast<uint64_t>(key.rep));
    hash = mix(hash, (static_cast<uint64_t>(key.state) << 32) | static_cast<uint32_t>(key.pool));
    hash = mix(hash, (static_cast<uint64_t>(tag) << 32) | static_cast<uint32_t>(key.day));
    hash = mix(hash, static_cast<uint64_t>(key.effect));
    return &buckets[hash & static_cast<uint64_t>(bucket_count - 1)];
}

int32_t Ledger::find(const LedgerKey& key, uint32_t tag) const noexcept {
    if (bucket_count == 0)
        return kNone;
    int32_t i = *bucket_of(key, tag);
    while (i >= 0 && !(entries[i].tag == tag && same(entries[i].key, key)))
        i = entries[i].hash_next;
    return i;
}

void Ledger::link(int32_t i, uint32_t tag) noexcept {
    int32_t* bucket = bucket_of(entries[i].key, tag);
    entries[i].tag = tag;
    entries[i].hash_next = *bucket;
    *bucket = i;
}

void Ledger::unlink(int32_t i) noexcept {
    int32_t* at = bucket_of(entries[i].key, entries[i].tag);
    while (*at != i)
        at = &entries[*at].hash_next;
    *at = entries[i].hash_next;
}

void Ledger::release(int32_t i) noexcept {
    unlink(i);
    entries[i].next = free;
    free = i;
    entry_count--;
}

void* Ledger::move_to(void* new_block, int32_t new_capacity) noexcept {
    Ledger old = *this;
    block = new_block;
    capacity = new_capacity;
    bucket_count = buckets_for(new_capacity);
    entries = static_cast<LedgerEntry*>(new_block);
    levels = reinterpret_cast<LedgerLevel*>(entries + new_capacity);
    buckets = reinterpret_cast<int32_t*>(levels + new_capacity);
    clear();
    next_tag = old.next_tag;
    for (int32_t k = 0; k < old.level_count; k++) {
        LedgerLevel& level = levels[level_count++];
        level = old.levels[k];
        int32_t* tail = &level.first;
        for (int32_t i = old.levels[k].first; i >= 0; i = old.entries[i].next) {
            int32_t moved = fresh++;
            entries[moved] = old.entries[i];
            link(moved, level.tag);
            *tail = moved;
            tail = &entries[moved].next;
            entry_count++;
        }
        *tail = kNone;
    }
    return old.block;
}

void Ledger::clear() noexcept {
    std::fill(buckets, buckets + bucket_count, kNone);
    entry_count = 0;
    level_count = 0;
    fresh = 0;
    free = kNone;
    next_tag = 0;
}

// The record of a level, made when it is deeper than all so far. A level between existing ones
// does not come up; if it did, the deepest would stand in for it.
LedgerLevel& Ledger::level_for(int32_t level) noexcept {
    if (level_count == 0 || levels[level_count - 1].number < level)
        levels[level_count++] = {level, kNone, 0, next_tag++};
    int32_t k = level_count - 1;
    while (k > 0 && levels[k].number > level)
        k--;
    return levels[k].number == level ? levels[k] : levels[level_count - 1];
}

void Ledger::charge(int32_t level, const LedgerKey& key, int64_t extra) noexcept {
    LedgerLevel& record = level_for(level);
    int32_t i = find(key, record.tag);
    if (i < 0) {
        i = free;
        if (i >= 0)
            free = entries[i].next;
        else
            i = fresh++;
        entry_count++;
        entries[i].key = key;
        entries[i].turns = entries[i].extra = 0;
        entries[i].next = record.first;
        record.first = i;
        record.entry_count++;
        link(i, record.tag);
    }
    entries[i].turns++;
    entries[i].extra += extra;
}

bool Ledger::uncharge(int32_t level, const LedgerKey& key, int64_t turns, int64_t extra) noexcept {
    for (int32_t k = level_count - 1; k >= 0 && levels[k].number >= level; k--) {
        if (levels[k].number != level)
            continue;
        int32_t i = find(key, levels[k].tag);
        if (i < 0 || entries[i].turns < turns)
            return false;
        entries[i].extra -= extra;
        entries[i].turns -= turns; // an entry of no turns stays: the next row is likely to need it
        return true;
    }
    return false;
}

// Moves the entries of `from` into `into`; `from` is no longer a level afterwards.
void Ledger::merge(LedgerLevel& into, const LedgerLevel& from) noexcept {
    int32_t next;
    for (int32_t i = from.first; i >= 0; i = next) {
        next = entries[i].next;
        int32_t twin = find(entries[i].key, into.tag);
        if (twin >= 0) {
            entries[twin].turns += entries[i].turns;
            entries[twin].extra += entries[i].extra;
            release(i);
            continue;
        }
        unlink(i);
        link(i, into.tag);
        entries[i].next = into.first;
        into.first = i;
        into.entry_count++;
    }
}

void Ledger::commit_level(int32_t level) noexcept {
    if (level <= 1 || level_count == 0 || levels[level_count - 1].number != level)
        return;
    LedgerLevel& child = levels[level_count - 1];
    if (level_count == 1 || levels[level_count - 2].number < level - 1) {
        child.number = level - 1;
        return;
    }
    LedgerLevel& parent = levels[level_count - 2];
    if (child.entry_count > parent.entry_count) {
        std::swap(child, parent);
        parent.number = level - 1;
    }
    level_count--;
    merge(parent, child);
}

bool Ledger::take(int32_t level, LedgerKey* key, int64_t* turns, int64_t* extra) noexcept {
    while (level_count > 0 && levels[level_count - 1].number >= level) {
        LedgerLevel& top = levels[level_count - 1];
        int32_t i = top.first;
        if (i < 0) {
            level_count--;
            continue;
        }
        *key = entries[i].key;
        *turns = entries[i].turns;
        *extra = entries[i].extra;
        top.first = entries[i].next;
        top.entry_count--;
        release(i);
        if (*turns != 0)
            return true;
    }
    return false;
}

int64_t Ledger::total() const noexcept {
    int64_t sum = 0;
    for_each([&sum](const LedgerKey&, int64_t turns, int64_t) { sum += turns; });
    return sum;
}

} // namespace leadroute::core
