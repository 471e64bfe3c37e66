// Fair queueing with eligibility: who of a pool's members gets the next lead.
//
// Virtual time advances with each lead by 1 / (weights of the eligible members). A member's turn
// lasts 1 / weight of virtual time, from its start tag to its finish tag; its deficit is
// weight * (now - start): the turns due to it minus the turns received, nothing else. Among the
// members whose turn has started (start < now) the one with the earliest finish tag is served, with
// none started the one that starts first. That keeps every deficit of a static set strictly within
// one turn.
//
// One that leaves takes its deficit along and brings it back; the others' do not change by that, so
// that the deficits of all members, not of the active ones, sum to zero. (To share it out among
// those who stay, as EEVDF does, loses track of what is due: deviations then wander off without
// bound, and explode when members come and go more often than leads do.)
// With members coming and going all the time, measured deviations are below 1.5 turns for equal
// weights, 2 for weights within 10 to 1 and 3 for 1000 to 1; see test/unit. While those who are
// away hold more than one turn on balance, a turn counts as started from the mean of the active.
//
// Sources: WF2Q+ (Bennett and Zhang 1996) for "started, earliest finish"; the bound for a static
// set is that of the chairman assignment (Tijdeman 1980).
//
// That is the order `fair`. The members of a queue stand in lanes, each with a virtual time of its
// own: a lead that one lane takes is due to the members of that lane alone. What the orders do:
//   fair    one lane, as above
//   least   one lane; the least load is served, among equals who has waited longest. Deficits are
//           kept as under `fair` and only tell how far that is from equal turns
//   tiers   a lane per tier; the first one with an active member is served, as under `fair`
//   places  a lane per place; the caller chooses the place (next_in()), which is served as under
//           `fair`, and next() says who has waited longest at any
// Under all of them a turn is charged, given back, carried over and rebuilt alike, so that a queue
// may change its order: deficits go along. The bounds above are those of each lane.
//
// A lead costs one turn, or, where leads have a value, 1 + extra / 1024 turns: then a deficit is in
// units of value, and a turn counts as started, as for any lead, when that much of virtual time
// would make up for it. With equal weights every deficit of a static set stays within the largest
// cost so far. Costs add up in whole units, so that what is given back in one sum is what was
// charged one by one, to the last bit.
//
// All state is plain data in memory that the caller owns (shared memory, or a test's vector) and
// guards; nothing here allocates, throws or locks. Every operation is O(log members), amortised,
// but for recentre(), for next() of places, and for the *_among family, which is for a lead that
// only some of the members may take: O(members).
//
// Numeric error: the sums of the weights are exact. A step is rounded to half a unit of 2^-64, so
// that a weight w acts as w * (1 +- w * 2^-65): after 2^32 turns of one member a weight of 1 is off
// by less than 2^-33 turns, one of a million by less than 2^-12. Deficits enter and leave as
// doubles. Tags are compared on a grid of 2^-40, which makes tags that are equal by the weights
// equal in spite of rounding, and a turn counts as started only when it starts before the next
// lead's virtual time by a margin of 2^-20 leads or one step of that grid. What all that costs is
// a deviation of 1 + 2^-19 turns instead of 1 in pools whose weights add up to over 2^20.
#pragma once

#include <cstdint>

namespace leadroute::core {

// Virtual time: fixed point with 64 fractional bits. Aligned to 8 bytes, not 16, because that is
// what the server's allocators give; so never bind a reference to one (std::max does): a template
// forgets the alignment.
typedef __int128 VirtualTime __attribute__((aligned(8)));
// A sum of weights: fixed point with 80 fractional bits, in which every weight is exact.
typedef __int128 WeightSum __attribute__((aligned(8)));

// Weights outside are taken as the nearer bound.
constexpr double kMinWeight = 1e-6;
constexpr double kMaxWeight = 1e6;

// Units of what a lead costs beyond one turn.
constexpr int kCostShift = 10;
constexpr double kCostUnits = 1 << kCostShift;
constexpr double kMaxCost = 1e9;
// A value as the extra units of a lead's cost; what is too large or too small counts as the nearest
// that is not. Takes positive numbers.
int64_t extra_of(double cost) noexcept;
inline double cost_of(int64_t turns, int64_t extra) noexcept {
    return static_cast<double>(turns) + static_cast<double>(extra) / kCostUnits;
}
// What so many turns with so many extra units take of virtual time. Linear in both.
inline VirtualTime stretch(VirtualTime step, int64_t turns, int64_t extra) noexcept {
    VirtualTime time = turns * step;
    if (extra != 0)
        time += extra * (step >> kCostShift);
    return time;
}

enum class Place : uint8_t { parked, ready, waiting };

enum class Order : uint8_t { fair, least, tiers, places };

// What a member that joins or returns is owed: nothing more than when it left, all that it would
// have been due meanwhile, or that up to a limit (in turns).
enum class CatchUp : uint8_t { none, full, bounded };

// What comparisons read stands first, within a cache line.
struct Member {
    VirtualTime start;
    VirtualTime finish;
    uint64_t last_turn; // Queue::turns at its latest pick, 0: never
    int64_t id;         // breaks the last tie
    int32_t heap_index; // position in the heap of its place, -1: parked
    int32_t lane;
    int32_t load; // for Order::least
    Place place;
    bool marked;            // scratch of charge_among()
    VirtualTime step;       // 1 / weight
    VirtualTime ideal_left; // Lane::ideal when it was parked; 0 for one that never took part
    double weight;          // 0: not set by add() yet
    double parked_deficit;  // its deficit while parked
};

struct Lane {
    VirtualTime now;        // virtual time of the eligible
    VirtualTime ideal;      // virtual time as if every member had been eligible for every lead
    VirtualTime lead_step;  // 1 / active_sum: what a lead adds to now; 0 with nobody active
    VirtualTime ideal_step; // 1 / all_sum: what a lead adds to ideal
    WeightSum active_sum;   // weights of the active
    WeightSum all_sum;      // weights of all members
    double owed_active;     // sum of the deficits of the active
    double scratch;         // of recentre(), and of the caller in between
    int32_t number;         // of the tier or place
    int32_t first;          // where its part of the heaps begins
    int32_t ready_count;
    int32_t waiting_count;
};

struct Queue {
    uint64_t turns; // picks made, never taken back: orders equal claims
    int32_t member_count;
    int32_t active_count;
    int32_t lane_count;
    int32_t first_active; // no lane before this one has an active member
    Order order;
};

// A view over one pool's state; cheap to make. `ready` and `waiting` have room for member_count.
class FairQueue {
  public:
    FairQueue(Queue* queue, Lane* lanes, Member* members, int32_t* ready, int32_t* waiting) noexcept
        : q_(*queue), lanes_(lanes), m_(members), ready_(ready), waiting_(waiting) {}

    // Starts an empty queue of `count` members, each to be set by add(). Of several lanes, which
    // tiers and places may have, each is then laid out by set_lane(), in order; a lane's number
    // says which tier it is, the least first, or means nothing here.
    void reset(int32_t count, Order order = Order::fair, int32_t lanes = 1) noexcept;
    void set_lane(int32_t lane, int32_t number, int32_t members) noexcept;
    // Sets member i: parked, owed nothing, without a turn so far. Also over an earlier one of the
    // same lane.
    void add(int32_t i, int64_t id, double weight, int32_t lane = 0) noexcept;
    // Changes the weight of member i, active or parked, and nothing of what it is owed.
    void reweigh(int32_t i, double weight) noexcept;
    // What Order::least goes by. The other orders keep it and do not look at it.
    void set_load(int32_t i, int32_t load) noexcept;

    // The active member that the next lead goes to, or -1. Charges nothing.
    int32_t next(int64_t extra = 0) noexcept;
    // The same of one lane alone, by fair turns.
    int32_t next_in(int32_t lane, int64_t extra = 0) noexcept;
    // Gives a lead to the active member i (as a rule what next() said).
    void charge(int32_t i, int64_t extra = 0) noexcept;
    // What a member of this weight that is not active is owed again for leads that never landed:
    // they were shared by those who are active in its lane now and by it, as far as is known. The
    // last lane stands for one that is no more.
    double refund(int32_t lane, double weight, int64_t turns, int64_t extra = 0) const noexcept;
    // Takes back `turns` leads that never landed, and what they cost beyond one turn each; member i
    // may be active or parked.
    void give_back(int32_t i, int64_t turns, int64_t extra = 0) noexcept;

    // Makes an active member ineligible, keeping its deficit. Does nothing to a parked one.
    void park(int32_t i) noexcept;
    // Makes a parked member eligible with this deficit. What it exceeds the parked deficit by is at
    // the cost of the lane's other active members by weight; with no others, there is nothing to
    // gain. Does nothing to an active one.
    void join(int32_t i, double deficit) noexcept;
    // The first half of join(), for several who join at once: the active pay for what this deficit
    // exceeds the parked one by. The second half is restore(), when all have been paid for.
    void prepay(int32_t i, double deficit) noexcept;
    // What the parked member i is owed by the policy when it joins now. `limit` in turns. What it
    // was owed when it left stays under every policy: only what came since is limited.
    double owed(int32_t i, CatchUp policy, double limit) const noexcept;
    // Turns due minus turns received.
    double deficit(int32_t i) const noexcept;
    // For a rebuilt queue: makes a parked member eligible with this deficit and leaves virtual time
    // alone. After the last one recentre().
    void restore(int32_t i, double deficit) noexcept;
    // Moves virtual time so that the deficits of each lane, parked ones included, sum to zero;
    // for a rebuilt queue, or one that lost a member.
    void recentre() noexcept;

    // For a lead that only `eligible` (active members, `count` of them) may take: as next(),
    // next_in() and charge(); the others are due nothing for it.
    int32_t next_among(const int32_t* eligible, int32_t count, int64_t extra = 0) noexcept;
    int32_t next_in_among(int32_t lane, const int32_t* eligible, int32_t count,
                          int64_t extra = 0) noexcept;
    void charge_among(int32_t i, const int32_t* eligible, int32_t count,
                      int64_t extra = 0) noexcept;

    // The first `max` (at most kMaxUpcoming) active members in the order in which the next leads
    // would go if nothing else changed, found without walking the heaps: exact for the first, near
    // for the rest. Returns how many.
    static constexpr int32_t kMaxUpcoming = 32;
    int32_t upcoming(int32_t* out, int32_t max) noexcept;

  private:
    Lane& lane_of(int32_t i) const noexcept { return lanes_[m_[i].lane]; }
    bool active_in(int32_t lane, int32_t i) const noexcept {
        return m_[i].lane == lane && m_[i].place != Place::parked;
    }
    void set_weight(int32_t i, double weight) noexcept;
    bool started(int32_t i, VirtualTime limit) const noexcept;
    bool waited_longer(const Member& x, const Member& y) const noexcept;
    bool before(int32_t a, int32_t b, Place place) const noexcept;
    int32_t* heap(int32_t lane, Place place) const noexcept {
        return (place == Place::ready ? ready_ : waiting_) + lanes_[lane].first;
    }
    int32_t& heap_count(int32_t lane, Place place) noexcept;
    void set_slot(int32_t lane, Place place, int32_t slot, int32_t i) noexcept;
    void sift_up(int32_t lane, Place place, int32_t slot) noexcept;
    void sift_down(int32_t lane, Place place, int32_t slot) noexcept;
    void fix(int32_t i) noexcept;
    void insert(int32_t i, Place place) noexcept;
    void remove(int32_t i) noexcept;
    void heapify(int32_t lane, Place place) noexcept;
    int32_t first_of(int32_t lane, Place place, int32_t* out, int32_t max) noexcept;
    int32_t first_lane() noexcept;
    int32_t next_anywhere() const noexcept;
    int32_t least_among(const int32_t* eligible, int32_t count) const noexcept;
    VirtualTime start_limit(const Lane& lane, VirtualTime lead_step,
                            int64_t extra = 0) const noexcept;
    VirtualTime step_among(int32_t lane, const int32_t* eligible, int32_t count) const noexcept;
    void pay(Lane& lane, double turns) noexcept;
    void take_turn(int32_t i, int64_t extra) noexcept;
    void shift(int32_t i, VirtualTime by) noexcept;
    void shift_marked(int32_t lane, Place place, bool marked, VirtualTime by) noexcept;
    void advance_among(int32_t lane, const int32_t* eligible, int32_t count, int32_t sharing,
                       VirtualTime step) noexcept;

    Queue& q_;
    Lane* lanes_;
    Member* m_;
    int32_t* ready_;
    int32_t* waiting_;
};

} // namespace leadroute::core
