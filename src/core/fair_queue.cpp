// The fair queue: tags in virtual time, two heaps, and what joining and leaving does to them.
//
// An active member is in the heap `ready`, by finish tag, or in `waiting`, by start tag. What
// holds at all times is only that each active member is in one of them. next() moves members
// between them as far as it must: it has seen every started member when the top of `waiting` has
// not started, and it has found the earliest finish when the top of `ready` has. So members of
// `ready` that have not started (they just had their turn, or virtual time went back) stay there
// until they come to the top, which each does once per turn.
#include "fair_queue.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace leadroute::core {

namespace {

using Fixed = __int128;

// Units per whole of virtual time, and of weights.
constexpr long double kTimeUnit = 0x1p64L;
constexpr long double kWeightUnit = 0x1p80L;
constexpr int kGridShift = 24;   // tags are compared in units of 2^-40
constexpr int kMarginShift = 20; // a turn that starts so little before a lead has not started
constexpr double kMaxDeficit = 1e12;
constexpr double kBalance = 1; // turns that the active may be owed, or owe, before it shifts starts
constexpr int32_t kFewShare = 16; // fewer than 1 in so many tags are moved one by one
constexpr uint64_t kMinRecentreInterval = 1024;

Fixed round_to_fixed(long double value) noexcept {
    return static_cast<Fixed>(value + (value < 0 ? -0.5L : 0.5L));
}

double sane_weight(double weight) noexcept {
    if (!(weight >= kMinWeight)) // also NaN
        return kMinWeight;
    return std::min(weight, kMaxWeight);
}

double sane_deficit(double deficit) noexcept {
    if (std::isnan(deficit))
        return 0;
    return std::clamp(deficit, -kMaxDeficit, kMaxDeficit);
}

Fixed weight_to_sum(double weight) noexcept {
    return static_cast<Fixed>(weight * kWeightUnit);
}

double sum_to_double(Fixed sum) noexcept {
    return static_cast<double>(static_cast<long double>(sum) / kWeightUnit);
}

// Virtual time that one turn takes of members who weigh so much together.
Fixed step_of(Fixed sum) noexcept {
    return sum > 0 ? round_to_fixed(kWeightUnit / static_cast<long double>(sum) * kTimeUnit) : 0;
}

// Virtual time that so many turns take. The same arguments give the same result, so that what is
// taken from the others can be given back to the last bit.
Fixed turns_to_time(double turns, Fixed step) noexcept {
    return round_to_fixed(turns * static_cast<long double>(step));
}

double time_to_turns(Fixed time, double weight) noexcept {
    return static_cast<double>(static_cast<long double>(time) * weight / kTimeUnit);
}

Fixed grid(Fixed time) noexcept {
    return (time + (Fixed{1} << (kGridShift - 1))) >> kGridShift;
}

} // namespace

// On the grid: a turn has started for the coming lead when its start tag is below. The margin is
// for tags that equal the lead's virtual time but for rounding.
VirtualTime FairQueue::start_limit(VirtualTime lead_step) const noexcept {
    double owed = q_.owed_active;
    double excess = owed - std::clamp(owed, -kBalance, kBalance);
    Fixed mean = q_.now - turns_to_time(excess, q_.lead_step);
    Fixed margin = std::max(Fixed{lead_step} >> kMarginShift, Fixed{1} << kGridShift);
    return grid(mean + lead_step - margin);
}

bool FairQueue::started(int32_t i, VirtualTime limit) const noexcept {
    return grid(m_[i].start) < limit;
}

bool FairQueue::before(int32_t a, int32_t b, Place place) const noexcept {
    const Member& x = m_[a];
    const Member& y = m_[b];
    if (place == Place::waiting) {
        Fixed x_start = grid(x.start), y_start = grid(y.start);
        if (x_start != y_start)
            return x_start < y_start;
    }
    Fixed x_finish = grid(x.finish), y_finish = grid(y.finish);
    if (x_finish != y_finish)
        return x_finish < y_finish;
    if (x.last_turn != y.last_turn)
        return x.last_turn < y.last_turn;
    return x.id < y.id;
}

int32_t& FairQueue::heap_count(Place place) noexcept {
    return place == Place::ready ? q_.ready_count : q_.waiting_count;
}

void FairQueue::set_slot(Place place, int32_t slot, int32_t i) noexcept {
    heap(place)[slot] = i;
    m_[i].heap_index = slot;
}

void FairQueue::sift_up(Place place, int32_t slot) noexcept {
    int32_t* h = heap(place);
    int32_t i = h[slot];
    while (slot > 0) {
        int32_t parent = (slot - 1) / 2;
        if (!before(i, h[parent], place))
            break;
        set_slot(place, slot, h[parent]);
        slot = parent;
    }
    set_slot(place, slot, i);
}

void FairQueue::sift_down(Place place, int32_t slot) noexcept {
    int32_t* h = heap(place);
    int32_t count = heap_count(place);
    int32_t i = h[slot];
    for (;;) {
        int32_t child = 2 * slot + 1;
        if (child >= count)
            break;
        if (child + 1 < count && before(h[child + 1], h[child], place))
            child++;
        if (!before(h[child], i, place))
            break;
        set_slot(place, slot, h[child]);
        slot = child;
    }
    set_slot(place, slot, i);
}

// Restores the heap after the tags of i alone changed.
void FairQueue::fix(int32_t i) noexcept {
    Place place = m_[i].place;
    sift_up(place, m_[i].heap_index);
    sift_down(place, m_[i].heap_index);
}

void FairQueue::insert(int32_t i, Place place) noexcept {
    int32_t slot = heap_count(place)++;
    m_[i].place = place;
    set_slot(place, slot, i);
    sift_up(place, slot);
}

void FairQueue::remove(int32_t i) noexcept {
    Place place = m_[i].place;
    int32_t slot = m_[i].heap_index;
    int32_t last = heap(place)[--heap_count(place)];
    if (last != i) {
        set_slot(place, slot, last);
        fix(last);
    }
    m_[i].place = Place::parked;
    m_[i].heap_index = -1;
}

void FairQueue::heapify(Place place) noexcept {
    for (int32_t slot = heap_count(place) / 2 - 1; slot >= 0; slot--)
        sift_down(place, slot);
}

void FairQueue::reset(int32_t count) noexcept {
    q_ = Queue{};
    q_.member_count = count;
    for (int32_t i = 0; i < count; i++) {
        m_[i] = Member{};
        m_[i].heap_index = -1;
    }
}

void FairQueue::add(int32_t i, int64_t id, double weight) noexcept {
    park(i);
    double old_weight = m_[i].weight;
    m_[i] = Member{};
    m_[i].heap_index = -1;
    m_[i].id = id;
    m_[i].weight = old_weight;
    set_weight(i, weight);
}

// Of a parked member.
void FairQueue::set_weight(int32_t i, double weight) noexcept {
    Member& m = m_[i];
    q_.all_sum -= weight_to_sum(m.weight);
    m.weight = sane_weight(weight);
    q_.all_sum += weight_to_sum(m.weight);
    m.step = step_of(weight_to_sum(m.weight));
    q_.ideal_step = step_of(q_.all_sum);
}

void FairQueue::reweigh(int32_t i, double weight) noexcept {
    Member& m = m_[i];
    bool active = m.place != Place::parked;
    double due_since = time_to_turns(q_.ideal - m.ideal_left, m.weight);
    park(i);
    set_weight(i, weight);
    if (active)
        join(i, m.parked_deficit);
    else
        m.ideal_left = q_.ideal - turns_to_time(due_since, m.step);
}

int32_t FairQueue::next() noexcept {
    Fixed limit = start_limit(q_.lead_step);
    while (q_.waiting_count > 0 && started(waiting_[0], limit)) {
        int32_t i = waiting_[0];
        remove(i);
        insert(i, Place::ready);
    }
    while (q_.ready_count > 0) {
        int32_t i = ready_[0];
        if (started(i, limit))
            return i;
        remove(i);
        insert(i, Place::waiting);
    }
    return q_.waiting_count > 0 ? waiting_[0] : -1;
}

void FairQueue::take_turn(int32_t i) noexcept {
    Member& m = m_[i];
    q_.ideal += q_.ideal_step;
    m.start = m.finish;
    m.finish += m.step;
    m.last_turn = ++q_.turns;
    fix(i);
}

void FairQueue::charge(int32_t i) noexcept {
    if (m_[i].place == Place::parked)
        return;
    q_.now += q_.lead_step;
    take_turn(i);
    // Rounding moves the sum of the deficits away from zero by up to a unit per lead.
    uint64_t interval =
        std::bit_ceil(std::max(kMinRecentreInterval, static_cast<uint64_t>(q_.member_count)));
    if ((q_.turns & (interval - 1)) == 0)
        recentre();
}

double FairQueue::refund(double weight, int64_t turns) const noexcept {
    double active = sum_to_double(q_.active_sum);
    return static_cast<double>(turns) * active / (active + weight);
}

void FairQueue::give_back(int32_t i, int64_t turns) noexcept {
    Member& m = m_[i];
    q_.ideal -= turns * q_.ideal_step;
    if (m.place == Place::parked) {
        double others = refund(m.weight, turns);
        m.parked_deficit += others;
        pay(others);
        return;
    }
    q_.now -= turns * q_.lead_step;
    m.start -= turns * m.step;
    m.finish -= turns * m.step;
    fix(i);
}

void FairQueue::park(int32_t i) noexcept {
    Member& m = m_[i];
    if (m.place == Place::parked)
        return;
    m.parked_deficit = deficit(i);
    m.ideal_left = q_.ideal;
    remove(i);
    q_.active_sum -= weight_to_sum(m.weight);
    q_.lead_step = step_of(q_.active_sum);
    q_.owed_active = q_.active_sum > 0 ? q_.owed_active - m.parked_deficit : 0;
}

// Takes turns from the active, by weight.
void FairQueue::pay(double turns) noexcept {
    if (q_.active_sum <= 0)
        return;
    turns = sane_deficit(turns);
    q_.now -= turns_to_time(turns, q_.lead_step);
    q_.owed_active -= turns;
}

void FairQueue::join(int32_t i, double deficit) noexcept {
    const Member& m = m_[i];
    if (m.place != Place::parked)
        return;
    deficit = sane_deficit(q_.active_sum > 0 ? deficit : m.parked_deficit);
    pay(deficit - m.parked_deficit);
    restore(i, deficit);
}

void FairQueue::restore(int32_t i, double deficit) noexcept {
    Member& m = m_[i];
    if (m.place != Place::parked)
        return;
    deficit = sane_deficit(deficit);
    m.start = q_.now - turns_to_time(deficit, m.step);
    m.finish = m.start + m.step;
    q_.active_sum += weight_to_sum(m.weight);
    q_.lead_step = step_of(q_.active_sum);
    q_.owed_active += deficit;
    bool ready = started(i, start_limit(q_.lead_step));
    insert(i, ready ? Place::ready : Place::waiting);
}

double FairQueue::owed(int32_t i, CatchUp policy, double limit) const noexcept {
    const Member& m = m_[i];
    if (policy == CatchUp::none)
        return m.parked_deficit;
    double since = std::max(0.0, time_to_turns(q_.ideal - m.ideal_left, m.weight));
    double full = m.parked_deficit + since;
    return policy == CatchUp::full ? full : std::max(m.parked_deficit, std::min(full, limit));
}

double FairQueue::deficit(int32_t i) const noexcept {
    const Member& m = m_[i];
    return m.place == Place::parked ? m.parked_deficit : time_to_turns(q_.now - m.start, m.weight);
}

void FairQueue::recentre() noexcept {
    if (q_.active_sum <= 0)
        return;
    // In turns, relative to now: each term is about one turn, whatever the weights.
    long double active = 0, parked = 0;
    for (int32_t i = 0; i < q_.member_count; i++) {
        const Member& m = m_[i];
        if (m.place == Place::parked)
            parked += m.parked_deficit;
        else
            active += static_cast<long double>(q_.now - m.start) * m.weight;
    }
    active /= kTimeUnit;
    q_.owed_active = static_cast<double>(active);
    pay(static_cast<double>(active + parked));
}

// Virtual time that a lead takes which only these may take. Parked ones do not count.
VirtualTime FairQueue::step_among(const int32_t* eligible, int32_t count) const noexcept {
    long double sum = 0;
    for (int32_t k = 0; k < count; k++)
        if (m_[eligible[k]].place != Place::parked)
            sum += m_[eligible[k]].weight;
    return sum > 0 ? round_to_fixed(kTimeUnit / sum) : 0;
}

int32_t FairQueue::next_among(const int32_t* eligible, int32_t count) noexcept {
    Fixed limit = start_limit(step_among(eligible, count));
    int32_t ready = -1, waiting = -1;
    for (int32_t k = 0; k < count; k++) {
        int32_t i = eligible[k];
        if (m_[i].place == Place::parked)
            continue;
        if (started(i, limit)) {
            if (ready < 0 || before(i, ready, Place::ready))
                ready = i;
        } else if (waiting < 0 || before(i, waiting, Place::waiting)) {
            waiting = i;
        }
    }
    return ready >= 0 ? ready : waiting;
}

void FairQueue::shift(int32_t i, VirtualTime by) noexcept {
    m_[i].start += by;
    m_[i].finish += by;
}

// Moves all of a heap that are marked, or all that are not.
void FairQueue::shift_marked(Place place, bool marked, VirtualTime by) noexcept {
    const int32_t* h = heap(place);
    for (int32_t slot = 0; slot < heap_count(place); slot++)
        if (m_[h[slot]].marked == marked)
            shift(h[slot], by);
    heapify(place);
}

// Lets a lead pass for these alone. Only the difference between now and a tag counts, so either
// their tags go back or now and the tags of the others go forward, whichever moves fewer.
void FairQueue::advance_among(const int32_t* eligible, int32_t count, VirtualTime step) noexcept {
    int32_t active = q_.ready_count + q_.waiting_count;
    if (count <= active / kFewShare) {
        for (int32_t k = 0; k < count; k++) {
            shift(eligible[k], -step);
            if (m_[eligible[k]].place != Place::parked)
                fix(eligible[k]);
        }
        return;
    }
    bool others = count > active / 2;
    for (int32_t k = 0; k < count; k++)
        m_[eligible[k]].marked = true;
    if (others)
        q_.now += step;
    shift_marked(Place::ready, !others, others ? step : -step);
    shift_marked(Place::waiting, !others, others ? step : -step);
    for (int32_t k = 0; k < count; k++)
        m_[eligible[k]].marked = false;
}

void FairQueue::charge_among(int32_t i, const int32_t* eligible, int32_t count) noexcept {
    if (count >= q_.ready_count + q_.waiting_count || m_[i].place == Place::parked)
        return charge(i);
    advance_among(eligible, count, step_among(eligible, count));
    take_turn(i);
}

// The first `max` of a heap in its order: a node comes before those below it, so that the next one
// is always a child of one that is out already.
int32_t FairQueue::first_of(Place place, int32_t* out, int32_t max) noexcept {
    int32_t frontier[kMaxUpcoming + 1] = {0};
    int32_t frontier_count = heap_count(place) > 0 ? 1 : 0;
    const int32_t* h = heap(place);
    int32_t found = 0;
    while (found < max && frontier_count > 0) {
        int32_t best = 0;
        for (int32_t k = 1; k < frontier_count; k++)
            if (before(h[frontier[k]], h[frontier[best]], place))
                best = k;
        int32_t slot = frontier[best];
        frontier[best] = frontier[--frontier_count];
        out[found++] = h[slot];
        for (int32_t child = 2 * slot + 1; child <= 2 * slot + 2; child++)
            if (child < heap_count(place))
                frontier[frontier_count++] = child;
    }
    return found;
}

int32_t FairQueue::upcoming(int32_t* out, int32_t max) noexcept {
    next(); // brings the first to the top
    max = std::min(max, kMaxUpcoming);
    int32_t found = first_of(Place::ready, out, max);
    return found + first_of(Place::waiting, out + found, max - found);
}

} // namespace leadroute::core
