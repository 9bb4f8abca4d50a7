// How long to wait between two attempts to reach a server: each wait twice the last, up to a limit. Knows
// neither connections nor timers.
#pragma once

#include <algorithm>
#include <chrono>

#include "io/loop.h"

namespace farswap {

class Backoff {
  public:
    static constexpr std::chrono::milliseconds kMin{20};
    /// Also how long a server that has come back may stay unnoticed.
    static constexpr std::chrono::milliseconds kMax{1000};

    /// When to try again after a failure at `now`: at once the first time, then after kMin, doubled each time
    /// up to kMax.
    io::Clock::time_point next(io::Clock::time_point now) noexcept {
        const auto when = now + wait_;
        wait_ = std::clamp(wait_ * 2, kMin, kMax);
        return when;
    }
    /// The server has answered.
    void reset() noexcept { wait_ = {}; }
    /// It answers, but not as a server does that is worth asking at once.
    void lengthen() noexcept { wait_ = kMax; }
    /// Attempts have failed since the last reset().
    bool has_begun() const noexcept { return wait_ > std::chrono::milliseconds::zero(); }

  private:
    std::chrono::milliseconds wait_{};
};

}  // namespace farswap
