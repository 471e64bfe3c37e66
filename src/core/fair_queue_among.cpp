// The fair queue's leads that only some of the members may take, and its outlook: who comes next.
#include "fixed_time.h"

namespace leadroute::core {

constexpr int32_t kFewShare = 16; // fewer than 1 in so many tags are moved one by one

// Virtual time that a lead takes which only these of the lane may take. Parked ones do not count.
VirtualTime FairQueue::step_among(int32_t lane, const int32_t* eligible,
                                  int32_t count) const noexcept {
    long double sum = 0;
    for (int32_t k = 0; k < count; k++)
        if (active_in(lane, eligible[k]))
            sum += m_[eligible[k]].weight;
    return sum > 0 ? round_to_fixed(kTimeUnit / sum) : 0;
}

// The least of them by load, or who has waited longest.
int32_t FairQueue::least_among(const int32_t* eligible, int32_t count) const noexcept {
    bool by_load = q_.order == Order::least;
    int32_t found = -1;
    for (int32_t k = 0; k < count; k++) {
        int32_t i = eligible[k];
        if (m_[i].place == Place::parked)
            continue;
        if (found < 0 ||
            (by_load ? before(i, found, Place::ready) : waited_longer(m_[i], m_[found])))
            found = i;
    }
    return found;
}

int32_t FairQueue::next_among(const int32_t* eligible, int32_t count, int64_t extra) noexcept {
    if (q_.order == Order::least || q_.order == Order::places)
        return least_among(eligible, count);
    int32_t lane = q_.lane_count;
    for (int32_t k = 0; k < count; k++)
        if (m_[eligible[k]].place != Place::parked)
            lane = std::min(lane, m_[eligible[k]].lane);
    return lane == q_.lane_count ? -1 : next_in_among(lane, eligible, count, extra);
}

int32_t FairQueue::next_in_among(int32_t lane, const int32_t* eligible, int32_t count,
                                 int64_t extra) noexcept {
    Fixed limit = start_limit(lanes_[lane], step_among(lane, eligible, count), extra);
    int32_t ready = -1, waiting = -1;
    for (int32_t k = 0; k < count; k++) {
        int32_t i = eligible[k];
        if (!active_in(lane, i))
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
void FairQueue::shift_marked(int32_t lane, Place place, bool marked, VirtualTime by) noexcept {
    const int32_t* h = heap(lane, place);
    for (int32_t slot = 0; slot < heap_count(lane, place); slot++)
        if (m_[h[slot]].marked == marked)
            shift(h[slot], by);
    heapify(lane, place);
}

// Lets a lead pass for these of the lane alone, `sharing` of whom are active. Only the difference
// between now and a tag counts, so either their tags go back or now and the tags of the others go
// forward, whichever moves fewer.
void FairQueue::advance_among(int32_t lane, const int32_t* eligible, int32_t count, int32_t sharing,
                              VirtualTime step) noexcept {
    int32_t active = lanes_[lane].ready_count + lanes_[lane].waiting_count;
    if (sharing <= active / kFewShare) {
        for (int32_t k = 0; k < count; k++) {
            if (!active_in(lane, eligible[k]))
                continue;
            shift(eligible[k], -step);
            fix(eligible[k]);
        }
        return;
    }
    bool others = sharing > active / 2;
    for (int32_t k = 0; k < count; k++)
        m_[eligible[k]].marked = true;
    if (others)
        lanes_[lane].now += step;
    shift_marked(lane, Place::ready, !others, others ? step : -step);
    shift_marked(lane, Place::waiting, !others, others ? step : -step);
    for (int32_t k = 0; k < count; k++)
        m_[eligible[k]].marked = false;
}

void FairQueue::charge_among(int32_t i, const int32_t* eligible, int32_t count,
                             int64_t extra) noexcept {
    int32_t lane = m_[i].lane;
    int32_t sharing = 0;
    for (int32_t k = 0; k < count; k++)
        sharing += active_in(lane, eligible[k]) ? 1 : 0;
    if (m_[i].place == Place::parked ||
        sharing >= lanes_[lane].ready_count + lanes_[lane].waiting_count)
        return charge(i, extra);
    advance_among(lane, eligible, count, sharing,
                  stretch(step_among(lane, eligible, count), 1, extra));
    take_turn(i, extra);
}

// The first `max` of a heap in its order: a node comes before those below it, so that the next one
// is always a child of one that is out already.
int32_t FairQueue::first_of(int32_t lane, Place place, int32_t* out, int32_t max) noexcept {
    int32_t frontier[kMaxUpcoming + 1] = {0};
    int32_t frontier_count = heap_count(lane, place) > 0 ? 1 : 0;
    const int32_t* h = heap(lane, place);
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
            if (child < heap_count(lane, place))
                frontier[frontier_count++] = child;
    }
    return found;
}

int32_t FairQueue::upcoming(int32_t* out, int32_t max) noexcept {
    max = std::min(max, kMaxUpcoming);
    int32_t found = 0;
    for (int32_t lane = first_lane(); lane < q_.lane_count && found < max; lane++) {
        next_in(lane); // brings the first to the top
        found += first_of(lane, Place::ready, out + found, max - found);
        found += first_of(lane, Place::waiting, out + found, max - found);
    }
    return found;
}

} // namespace leadroute::core
