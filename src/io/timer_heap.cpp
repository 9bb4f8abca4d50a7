// See timer_heap.h.
#include "io/timer_heap.h"

#include "base/assert.h"

namespace farswap::io {

void TimerHeap::place(std::uint32_t index, Timer& timer) noexcept {
    heap_[index] = &timer;
    timer.index = index;
}

void TimerHeap::sift_up(std::uint32_t index) noexcept {
    Timer& timer = *heap_[index];
    while (index > 0) {
        const std::uint32_t parent = (index - 1) / 2;
        if (heap_[parent]->when <= timer.when) break;
        place(index, *heap_[parent]);
        index = parent;
    }
    place(index, timer);
}

void TimerHeap::sift_down(std::uint32_t index) noexcept {
    Timer& timer = *heap_[index];
    const auto size = static_cast<std::uint32_t>(heap_.size());
    for (std::uint32_t child = 2 * index + 1; child < size; child = 2 * index + 1) {
        if (child + 1 < size && heap_[child + 1]->when < heap_[child]->when) ++child;
        if (timer.when <= heap_[child]->when) break;
        place(index, *heap_[child]);
        index = child;
    }
    place(index, timer);
}

void TimerHeap::arm(Timer& timer, Clock::time_point when) noexcept {
    timer.when = when;
    if (!timer.armed()) {
        FARSWAP_ASSERT(heap_.size() < heap_.capacity());
        heap_.push_back(&timer);
        timer.index = static_cast<std::uint32_t>(heap_.size() - 1);
    }
    FARSWAP_ASSERT(timer.index < heap_.size() && heap_[timer.index] == &timer);
    sift_up(timer.index);
    sift_down(timer.index);
}

void TimerHeap::cancel(Timer& timer) noexcept {
    if (!timer.armed()) return;
    const std::uint32_t index = timer.index;
    FARSWAP_ASSERT(index < heap_.size() && heap_[index] == &timer);
    timer.index = Timer::kNotArmed;
    Timer& last = *heap_.back();
    heap_.pop_back();
    if (&last == &timer) return;
    place(index, last);
    sift_up(last.index);
    sift_down(last.index);
}

int TimerHeap::fire_due(Clock::time_point now) noexcept {
    int fired = 0;
    // The bound ends the round for timers that keep arming themselves in the past.
    for (std::size_t bound = heap_.size(); bound > 0 && !heap_.empty() && earliest() <= now; --bound) {
        Timer& timer = *heap_.front();
        cancel(timer);
        timer.fire(timer);
        ++fired;
    }
    return fired;
}

}  // namespace farswap::io
