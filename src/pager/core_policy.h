// Which core the loop's thread does best to poll on, found by trying. It may be the wrong one for reasons
// that nothing tells of: the thread that it serves may be run there, too (a kernel that does not know which
// cores share a cache has a thread run where it was woken from, whatever else is idle); the disk may
// interrupt that core, and an interrupt of a virtual core that computes can take longer than that of one that
// sleeps. What a fault takes tells of both. Pure; time is what the caller says it is.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <utility>

namespace farswap {

/// One thread.
class CorePolicy {
  public:
    using Time = std::chrono::steady_clock::time_point;
    using Nanoseconds = std::chrono::nanoseconds;

    enum class Advice : std::uint8_t {
        kStay,
        kLeave,   ///< go on on another core, for a while at first
        kGoBack,  ///< to the one that was left last: it was better there, or as good
    };

    /// A round of the loop has ended: its wait, and before it all that was done since the last one.
    /// `faults`: how many have been served in all. `counts`: whether it polled, and nothing else was going on
    /// that takes its time wherever we are.
    Advice round(std::uint64_t faults, bool counts, Time now) {
        const Nanoseconds took = now - std::exchange(last_, now);
        const std::uint64_t served = faults - std::exchange(faults_before_, faults);
        if (!counts) return Advice::kStay;
        // A program that computes between two faults does so wherever we are.
        taken_ += std::min(took, kRoundMax);
        served_ += served;
        if (served_ < kEnough) return Advice::kStay;
        const Nanoseconds cost = std::exchange(taken_, {}) / std::exchange(served_, 0);
        return is_trying_ ? judge(cost, now) : look(cost, now);
    }

  private:
    static constexpr std::uint64_t kEnough = 256;  // faults: 40 ms with a disk; their mean is good to 3%
    static constexpr Nanoseconds kRoundMax = std::chrono::microseconds(512);
    static constexpr Nanoseconds kPauseMin = std::chrono::seconds(1);
    static constexpr Nanoseconds kPauseMax = std::chrono::seconds(64);

    Advice look(Nanoseconds cost, Time now) {
        // Much slower than it was: somebody has come, or the scheduler has moved somebody.
        const bool is_worse = here_ > Nanoseconds::zero() && cost > here_ + here_ / 4;
        if (is_worse) pause_ = kPauseMin;
        if (now < tried_ + pause_) {
            // What it can be like here; slowly forgotten, as programs and disks change.
            here_ = here_ == Nanoseconds::zero() ? cost : std::min(cost, here_ + here_ / 64);
            return Advice::kStay;
        }
        here_ = cost;
        is_trying_ = true;
        return Advice::kLeave;
    }

    Advice judge(Nanoseconds cost, Time now) {
        is_trying_ = false;
        tried_ = now;
        if (cost + cost / 8 < here_) {
            here_ = cost;
            pause_ = kPauseMin;
            return Advice::kStay;
        }
        pause_ = std::min(2 * pause_, kPauseMax);
        return Advice::kGoBack;
    }

    std::uint64_t faults_before_ = 0;
    std::uint64_t served_ = 0;
    Nanoseconds taken_{};
    Nanoseconds here_{};  ///< a fault, on this core; zero: not known
    Time last_{};
    Time tried_{};
    Nanoseconds pause_ = kPauseMin / 2;
    bool is_trying_ = false;
};

}  // namespace farswap
