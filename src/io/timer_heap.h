// The timers of a loop in a binary heap of fixed size, earliest first. Knows timers only.
#pragma once

#include <cstdint>
#include <vector>

#include "io/loop.h"

namespace farswap::io {

/// Each armed timer knows its place (Timer::index), so that re-arming and cancelling cost O(log n).
class TimerHeap {
  public:
    explicit TimerHeap(std::uint32_t timers_max) { heap_.reserve(timers_max); }

    /// Adds the timer or moves it. More timers than the heap was made for are a broken invariant.
    void arm(Timer& timer, Clock::time_point when) noexcept;
    void cancel(Timer& timer) noexcept;  ///< no-op when not armed

    /// Disarms and fires all that are due at `now`, each once even when it arms itself again in the past.
    /// Returns how many fired.
    int fire_due(Clock::time_point now) noexcept;

    bool empty() const noexcept { return heap_.empty(); }
    Clock::time_point earliest() const noexcept { return heap_.front()->when; }

  private:
    void place(std::uint32_t index, Timer& timer) noexcept;
    void sift_up(std::uint32_t index) noexcept;
    void sift_down(std::uint32_t index) noexcept;

    std::vector<Timer*> heap_;
};

}  // namespace farswap::io
