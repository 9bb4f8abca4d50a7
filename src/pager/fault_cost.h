// What it costs a thread when a page that it needs is not where it looks for it, reads apart.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace farswap {

/// Means over what has happened of late. One thread.
class FaultCost {
  public:
    using Nanoseconds = std::chrono::nanoseconds;

    /// A fault has been served with a page that was in memory.
    void served(Nanoseconds took) noexcept { approach(serving_, took, 256); }
    /// So many pages have left a process, from the request to its agent on until their memory was free.
    void moved_out(Nanoseconds took, std::uint64_t pages) noexcept {
        if (pages > 0) approach(leaving_, took / pages, 16);
    }
    /// A fault that needs no read: itself, its thread's way back, and the page that has to leave for it.
    Nanoseconds without_read() const noexcept { return serving_ + kWayBack + leaving_; }

  private:
    // Who waited has been woken, perhaps on a core that had to be woken first, and touches the page again.
    static constexpr Nanoseconds kWayBack = std::chrono::microseconds(15);
    static constexpr Nanoseconds kMost = std::chrono::microseconds(500);  // stopped meanwhile

    static void approach(Nanoseconds& mean, Nanoseconds took, int memory) noexcept {
        mean += (std::clamp(took, Nanoseconds::zero(), kMost) - mean) / memory;
    }

    Nanoseconds serving_ = std::chrono::microseconds(10);
    Nanoseconds leaving_ = std::chrono::microseconds(5);
};

}  // namespace farswap
