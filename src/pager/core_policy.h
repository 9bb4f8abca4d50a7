// Whether the loop's thread is on the wrong core. While it polls it is best off where nobody else has
// something to do: else the thread that it serves is switched to and from at each fault, and so is its
// memory. A kernel that does not know which cores share a cache (many virtual machines) has a thread run
// where it was woken from, whatever else is idle. Pure; time is what the caller says it is.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace farswap {

/// One thread.
class CorePolicy {
  public:
    using Time = std::chrono::steady_clock::time_point;
    using Nanoseconds = std::chrono::nanoseconds;

    /// A wait has been polled for. `longest_yield`: the longest for which somebody else had the core when it
    /// was offered meanwhile. True: to go to another core now.
    bool polled(Nanoseconds longest_yield, Time now) {
        shared_ += longest_yield >= kShared;
        if (++waits_ < enough_) return false;
        // A thread that faults again and again on this core has it in every second wait.
        const bool is_shared = shared_ >= waits_ / 8 * 3;
        waits_ = shared_ = 0;
        if (!is_shared || now < next_) return false;
        enough_ = kWaitsLater;
        next_ = now + pause_;
        pause_ = std::min(2 * pause_, kPauseMax);
        return true;
    }

  private:
    // It is seldom much better elsewhere, and the scheduler moves the others, too, but slowly: once away, it
    // takes more to go again.
    static constexpr std::uint32_t kWaitsFirst = 64, kWaitsLater = 4096;
    static constexpr Nanoseconds kPauseMin = std::chrono::seconds(1);
    static constexpr Nanoseconds kPauseMax = std::chrono::seconds(16);
    // A yield to nobody takes a microsecond; the kernel's own interruptions some more.
    static constexpr Nanoseconds kShared = std::chrono::microseconds(20);

    std::uint32_t enough_ = kWaitsFirst;
    std::uint32_t waits_ = 0;
    std::uint32_t shared_ = 0;  ///< of them, with somebody else on the core
    Time next_{};
    Nanoseconds pause_ = kPauseMin;
};

}  // namespace farswap
