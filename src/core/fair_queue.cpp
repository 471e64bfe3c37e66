// The fair queue: tags in virtual time, two heaps, and what joining and leaving does to them.
//
// An active member is in its lane's heap `ready`, by finish tag, or in `waiting`, by start tag.
// What holds at all times is only that each active member is in one of them. next() moves members
// between them as far as it must: it has seen every started member when the top of `waiting` has
// not started, and it has found the earliest finish when the top of `ready` has. So members of
// `ready` that have not started (they just had their turn, or virtual time went back) stay there
// until they come to the top, which each does once per turn. Under Order::least all are in `ready`,
// by load.
#include "fixed_time.h"

#include <bit>

namespace leadroute::core {

constexpr uint64_t kMinRecentreInterval = 1024;

// On the grid: a turn has started for the coming lead when its start tag is below. The margin is
// for tags that equal the lead's virtual time but for rounding.
VirtualTime FairQueue::start_limit(const Lane& lane, VirtualTime lead_step,
                                   int64_t extra) const noexcept {
    double owed = lane.owed_active;
    double balance = extra == 0 ? kBalance : kBalance * cost_of(1, extra);
    double excess = owed - std::clamp(owed, -balance, balance);
    Fixed mean = lane.now - turns_to_time(excess, lane.lead_step);
    Fixed passes = stretch(lead_step, 1, extra);
    Fixed margin = std::max(passes >> kMarginShift, Fixed{1} << kGridShift);
    return grid(mean + passes - margin);
}

bool FairQueue::started(int32_t i, VirtualTime limit) const noexcept {
    return grid(m_[i].start) < limit;
}

bool FairQueue::waited_longer(const Member& x, const Member& y) const noexcept {
    return x.last_turn != y.last_turn ? x.last_turn < y.last_turn : x.id < y.id;
}

bool FairQueue::before(int32_t a, int32_t b, Place place) const noexcept {
    const Member& x = m_[a];
    const Member& y = m_[b];
    if (q_.order == Order::least)
        return x.load != y.load ? x.load < y.load : waited_longer(x, y);
    if (place == Place::waiting) {
        Fixed x_start = grid(x.start), y_start = grid(y.start);
        if (x_start != y_start)
            return x_start < y_start;
    }
    Fixed x_finish = grid(x.finish), y_finish = grid(y.finish);
    return x_finish != y_finish ? x_finish < y_finish : waited_longer(x, y);
}

int32_t& FairQueue::heap_count(int32_t lane, Place place) noexcept {
    return place == Place::ready ? lanes_[lane].ready_count : lanes_[lane].waiting_count;
}

void FairQueue::set_slot(int32_t lane, Place place, int32_t slot, int32_t i) noexcept {
    heap(lane, place)[slot] = i;
    m_[i].heap_index = slot;
}

void FairQueue::sift_up(int32_t lane, Place place, int32_t slot) noexcept {
    int32_t* h = heap(lane, place);
    int32_t i = h[slot];
    while (slot > 0) {
        int32_t parent = (slot - 1) / 2;
        if (!before(i, h[parent], place))
            break;
        set_slot(lane, place, slot, h[parent]);
        slot = parent;
    }
    set_slot(lane, place, slot, i);
}

void FairQueue::sift_down(int32_t lane, Place place, int32_t slot) noexcept {
    int32_t* h = heap(lane, place);
    int32_t count = heap_count(lane, place);
    int32_t i = h[slot];
    for (;;) {
        int32_t child = 2 * slot + 1;
        if (child >= count)
            break;
        if (child + 1 < count && before(h[child + 1], h[child], place))
            child++;
        if (!before(h[child], i, place))
            break;
        set_slot(lane, place, slot, h[child]);
        slot = child;
    }
    set_slot(lane, place, slot, i);
}

// Restores the heap after the tags or the load of i alone changed.
void FairQueue::fix(int32_t i) noexcept {
    const Member& m = m_[i];
    sift_up(m.lane, m.place, m.heap_index);
    sift_down(m.lane, m.place, m.heap_index);
}

void FairQueue::insert(int32_t i, Place place) noexcept {
    int32_t lane = m_[i].lane;
    int32_t slot = heap_count(lane, place)++;
    m_[i].place = place;
    set_slot(lane, place, slot, i);
    sift_up(lane, place, slot);
}

void FairQueue::remove(int32_t i) noexcept {
    Place place = m_[i].place;
    int32_t lane = m_[i].lane;
    int32_t slot = m_[i].heap_index;
    int32_t last = heap(lane, place)[--heap_count(lane, place)];
    if (last != i) {
        set_slot(lane, place, slot, last);
        fix(last);
    }
    m_[i].place = Place::parked;
    m_[i].heap_index = -1;
}

void FairQueue::heapify(int32_t lane, Place place) noexcept {
    for (int32_t slot = heap_count(lane, place) / 2 - 1; slot >= 0; slot--)
        sift_down(lane, place, slot);
}

void FairQueue::reset(int32_t count, Order order, int32_t lanes) noexcept {
    q_ = Queue{};
    q_.order = order;
    q_.member_count = count;
    q_.lane_count = lanes;
    for (int32_t k = 0; k < lanes; k++)
        lanes_[k] = Lane{};
    for (int32_t i = 0; i < count; i++) {
        m_[i] = Member{};
        m_[i].heap_index = -1;
    }
}

void FairQueue::set_lane(int32_t lane, int32_t number, int32_t members) noexcept {
    lanes_[lane].number = number;
    if (lane + 1 < q_.lane_count)
        lanes_[lane + 1].first = lanes_[lane].first + members;
}

void FairQueue::add(int32_t i, int64_t id, double weight, int32_t lane) noexcept {
    park(i);
    double old_weight = m_[i].weight;
    m_[i] = Member{};
    m_[i].heap_index = -1;
    m_[i].id = id;
    m_[i].lane = lane;
    m_[i].weight = old_weight;
    set_weight(i, weight);
}

// Of a parked member.
void FairQueue::set_weight(int32_t i, double weight) noexcept {
    Member& m = m_[i];
    Lane& lane = lane_of(i);
    lane.all_sum -= weight_to_sum(m.weight);
    m.weight = sane_weight(weight);
    lane.all_sum += weight_to_sum(m.weight);
    m.step = step_of(weight_to_sum(m.weight));
    lane.ideal_step = step_of(lane.all_sum);
}

void FairQueue::reweigh(int32_t i, double weight) noexcept {
    Member& m = m_[i];
    const Lane& lane = lane_of(i);
    bool active = m.place != Place::parked;
    double due_since = time_to_turns(lane.ideal - m.ideal_left, m.weight);
    park(i);
    set_weight(i, weight);
    if (active)
        join(i, m.parked_deficit);
    else
        m.ideal_left = lane.ideal - turns_to_time(due_since, m.step);
}

void FairQueue::set_load(int32_t i, int32_t load) noexcept {
    m_[i].load = load;
    if (q_.order == Order::least && m_[i].place != Place::parked)
        fix(i);
}

// The first lane that has an active member; lane_count: none has.
int32_t FairQueue::first_lane() noexcept {
    while (q_.first_active < q_.lane_count && lanes_[q_.first_active].active_sum == 0)
        q_.first_active++;
    return q_.first_active;
}

// Who has waited longest, whichever the lane.
int32_t FairQueue::next_anywhere() const noexcept {
    int32_t found = -1;
    for (int32_t i = 0; i < q_.member_count; i++)
        if (m_[i].place != Place::parked && (found < 0 || waited_longer(m_[i], m_[found])))
            found = i;
    return found;
}

int32_t FairQueue::next(int64_t extra) noexcept {
    if (q_.active_count == 0)
        return -1;
    return q_.order == Order::places ? next_anywhere() : next_in(first_lane(), extra);
}

int32_t FairQueue::next_in(int32_t number, int64_t extra) noexcept {
    const Lane& lane = lanes_[number];
    const int32_t* ready = heap(number, Place::ready);
    const int32_t* waiting = heap(number, Place::waiting);
    if (q_.order == Order::least)
        return lane.ready_count > 0 ? ready[0] : -1;
    Fixed limit = start_limit(lane, lane.lead_step, extra);
    while (lane.waiting_count > 0 && started(waiting[0], limit)) {
        int32_t i = waiting[0];
        remove(i);
        insert(i, Place::ready);
    }
    while (lane.ready_count > 0) {
        int32_t i = ready[0];
        if (started(i, limit))
            return i;
        remove(i);
        insert(i, Place::waiting);
    }
    return lane.waiting_count > 0 ? waiting[0] : -1;
}

void FairQueue::take_turn(int32_t i, int64_t extra) noexcept {
    Member& m = m_[i];
    Lane& lane = lane_of(i);
    lane.ideal += stretch(lane.ideal_step, 1, extra);
    shift(i, stretch(m.step, 1, extra));
    m.last_turn = ++q_.turns;
    fix(i);
}

int64_t extra_of(double cost) noexcept {
    return std::llround(std::clamp(cost, 1 / kCostUnits, kMaxCost) * kCostUnits) -
           (int64_t{1} << kCostShift);
}

void FairQueue::charge(int32_t i, int64_t extra) noexcept {
    if (m_[i].place == Place::parked)
        return;
    lane_of(i).now += stretch(lane_of(i).lead_step, 1, extra);
    take_turn(i, extra);
    // Rounding moves the sum of the deficits away from zero by up to a unit per lead.
    uint64_t interval =
        std::bit_ceil(std::max(kMinRecentreInterval, static_cast<uint64_t>(q_.member_count)));
    if ((q_.turns & (interval - 1)) == 0)
        recentre();
}

double FairQueue::refund(int32_t lane, double weight, int64_t turns, int64_t extra) const noexcept {
    double active = sum_to_double(lanes_[std::min(lane, q_.lane_count - 1)].active_sum);
    return cost_of(turns, extra) * active / (active + weight);
}

void FairQueue::give_back(int32_t i, int64_t turns, int64_t extra) noexcept {
    Member& m = m_[i];
    Lane& lane = lane_of(i);
    lane.ideal -= stretch(lane.ideal_step, turns, extra);
    if (m.place == Place::parked) {
        double others = refund(m.lane, m.weight, turns, extra);
        m.parked_deficit += others;
        pay(lane, others);
        return;
    }
    lane.now -= stretch(lane.lead_step, turns, extra);
    shift(i, -stretch(m.step, turns, extra));
    fix(i);
}

void FairQueue::park(int32_t i) noexcept {
    Member& m = m_[i];
    if (m.place == Place::parked)
        return;
    Lane& lane = lane_of(i);
    m.parked_deficit = deficit(i);
    m.ideal_left = lane.ideal;
    remove(i);
    q_.active_count--;
    lane.active_sum -= weight_to_sum(m.weight);
    lane.lead_step = step_of(lane.active_sum);
    lane.owed_active = lane.active_sum > 0 ? lane.owed_active - m.parked_deficit : 0;
}

// Takes turns from the active of a lane, by weight.
void FairQueue::pay(Lane& lane, double turns) noexcept {
    if (lane.active_sum <= 0)
        return;
    turns = sane_deficit(turns);
    lane.now -= turns_to_time(turns, lane.lead_step);
    lane.owed_active -= turns;
}

void FairQueue::join(int32_t i, double deficit) noexcept {
    const Member& m = m_[i];
    if (m.place != Place::parked)
        return;
    Lane& lane = lane_of(i);
    deficit = sane_deficit(lane.active_sum > 0 ? deficit : m.parked_deficit);
    pay(lane, deficit - m.parked_deficit);
    restore(i, deficit);
}

void FairQueue::prepay(int32_t i, double deficit) noexcept {
    if (m_[i].place == Place::parked)
        pay(lane_of(i), sane_deficit(deficit) - m_[i].parked_deficit);
}

void FairQueue::restore(int32_t i, double deficit) noexcept {
    Member& m = m_[i];
    if (m.place != Place::parked)
        return;
    Lane& lane = lane_of(i);
    deficit = sane_deficit(deficit);
    m.start = lane.now - turns_to_time(deficit, m.step);
    m.finish = m.start + m.step;
    q_.active_count++;
    q_.first_active = std::min(q_.first_active, m.lane);
    lane.active_sum += weight_to_sum(m.weight);
    lane.lead_step = step_of(lane.active_sum);
    lane.owed_active += deficit;
    bool ready = q_.order == Order::least || started(i, start_limit(lane, lane.lead_step));
    insert(i, ready ? Place::ready : Place::waiting);
}

double FairQueue::owed(int32_t i, CatchUp policy, double limit) const noexcept {
    const Member& m = m_[i];
    if (policy == CatchUp::none)
        return m.parked_deficit;
    double since = std::max(0.0, time_to_turns(lane_of(i).ideal - m.ideal_left, m.weight));
    double full = m.parked_deficit + since;
    return policy == CatchUp::full ? full : std::max(m.parked_deficit, std::min(full, limit));
}

double FairQueue::deficit(int32_t i) const noexcept {
    const Member& m = m_[i];
    return m.place == Place::parked ? m.parked_deficit
                                    : time_to_turns(lane_of(i).now - m.start, m.weight);
}

void FairQueue::recentre() noexcept {
    for (int32_t k = 0; k < q_.lane_count; k++)
        lanes_[k].owed_active = lanes_[k].scratch = 0;
    // In turns: each term is about one turn, whatever the weights.
    for (int32_t i = 0; i < q_.member_count; i++) {
        Lane& lane = lane_of(i);
        (m_[i].place == Place::parked ? lane.scratch : lane.owed_active) += deficit(i);
    }
    for (int32_t k = 0; k < q_.lane_count; k++)
        pay(lanes_[k], lanes_[k].owed_active + lanes_[k].scratch);
}

} // namespace leadroute::core
