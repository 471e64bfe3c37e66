// Ledger: the turns that one transaction has charged and that are not settled yet, and those that
// it is to return when it commits, by subtransaction level, so that each rollback undoes exactly
// its own.
//
// Turns of one level with the same key are one entry: a million rows need no more room than ten.
// Levels are the server's nest levels (1 = top), so they only get deeper until they are merged
// into their parent (commit_level) or given back (drop_level).
//
// Nothing here allocates or fails, because commit and abort callbacks must not. Charging takes up
// to one entry and one level: the caller asks needs_growth() before each charge, at a time when it
// may allocate, and hands over a larger block with move_to(). Every operation is O(1) or O(entries
// it touches); merging touches the smaller of the two levels, so that 100,000 nested savepoints
// with 100,000 keys are merged in O(n log n).
#pragma once

#include <cstddef>
#include <cstdint>

namespace leadroute::core {

// What becomes of what the ledger holds. A turn counts at once and is given back when the
// transaction aborts; what returns something to the rep happens only when it commits.
enum class Effect : uint32_t {
    turn,       // a pool member's turn, a rep's day, an open lead of the rep
    end,        // an open lead of the rep has ended
    credit,     // the member's turn was for nothing
    credit_day, // and does not count for the day either
};

// What is charged: a pool member's turn and a rep's day.
struct LedgerKey {
    int64_t rep;
    uint32_t state; // handle of the tenant's state
    int32_t pool;   // 0: none, a rule's own rep or a manual owner
    int32_t day;    // in the rep's time zone
    Effect effect;
};

struct LedgerEntry {
    LedgerKey key;
    int32_t hash_next;
    int32_t next; // within its level; in the list of free entries
    uint32_t tag; // of its level
    int64_t turns;
    int64_t extra; // what the turns cost beyond one each, in units of the fair queue's kCostShift
};

struct LedgerLevel {
    int32_t number;
    int32_t first; // entry, -1: none
    int32_t entry_count;
    uint32_t tag; // names the level in the hash, whatever its number becomes
};

// Flat: a zeroed Ledger is empty and has no room.
struct Ledger {
    void* block; // the caller's memory, holds all that follows
    LedgerEntry* entries;
    LedgerLevel* levels; // a stack: the deepest is last
    int32_t* buckets;    // heads of the hash chains, a power of two of them
    int32_t capacity;
    int32_t bucket_count;
    int32_t entry_count; // in use
    int32_t level_count;
    int32_t fresh; // entries from here on were never used
    int32_t free;  // head of the list of those used before, -1: none
    uint32_t next_tag;

    // Size of the block for so many entries. Blocks are aligned to 8 bytes.
    static size_t block_size(int32_t capacity) noexcept;

    // True when the next charge() might not find room. A first or larger block is due then.
    bool needs_growth() const noexcept {
        return entry_count >= capacity || level_count >= capacity;
    }
    // Moves everything into a new block for `capacity` entries (not fewer than are in use) and
    // returns the old one, which the caller frees, or nullptr.
    void* move_to(void* new_block, int32_t new_capacity) noexcept;

    // One turn more at this level, with what it costs beyond one. Only after needs_growth() said
    // no.
    void charge(int32_t level, const LedgerKey& key, int64_t extra = 0) noexcept;
    // Takes back `turns` of this level, and what they cost, for a pick whose row never came. False,
    // and nothing done, when the level does not have so many.
    bool uncharge(int32_t level, const LedgerKey& key, int64_t turns, int64_t extra = 0) noexcept;

    // The subtransaction of this level ended well: its turns are its parent's now.
    void commit_level(int32_t level) noexcept;
    // Forgets everything, keeps the block.
    void clear() noexcept;
    // True when nothing was charged since the last clear(), or all levels were dropped.
    bool empty() const noexcept { return level_count == 0; }
    // Turns of all levels and keys.
    int64_t total() const noexcept;

    // The subtransaction of this level rolled back, with all below it: calls
    // give_back(const LedgerKey&, int64_t turns, int64_t extra) for each of their entries. An entry
    // has left the ledger before its call, so that none is given back twice, whatever happens in
    // the call.
    template <typename Visitor> void drop_level(int32_t level, Visitor give_back) noexcept {
        LedgerKey key;
        int64_t turns, extra;
        while (take(level, &key, &turns, &extra))
            give_back(key, turns, extra);
    }
    // Calls visit(const LedgerKey&, int64_t turns, int64_t extra) for each entry, the deepest level
    // first. A key that several levels charged comes once for each.
    template <typename Visitor> void for_each(Visitor visit) const noexcept {
        for (int32_t k = level_count - 1; k >= 0; k--)
            for (int32_t i = levels[k].first; i >= 0; i = entries[i].next)
                if (entries[i].turns != 0)
                    visit(entries[i].key, entries[i].turns, entries[i].extra);
    }

    // For drop_level(): removes one entry of `level` or deeper; false when there is none left.
    bool take(int32_t level, LedgerKey* key, int64_t* turns, int64_t* extra) noexcept;

  private:
    int32_t* bucket_of(const LedgerKey& key, uint32_t tag) const noexcept;
    int32_t find(const LedgerKey& key, uint32_t tag) const noexcept;
    void link(int32_t i, uint32_t tag) noexcept;
    void unlink(int32_t i) noexcept;
    void release(int32_t i) noexcept;
    LedgerLevel& level_for(int32_t level) noexcept;
    void merge(LedgerLevel& into, const LedgerLevel& from) noexcept;
};

} // namespace leadroute::core
