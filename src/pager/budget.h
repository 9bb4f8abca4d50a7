// The RAM budget of a job: what is used, and what that means for faults, reclaim and polling. Pure
// arithmetic.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace farswap {

/// Sizes in bytes. `used` is the sum of the processes' memory and the pager's own, as last measured,
/// corrected by what was filled and zapped since.
class Budget {
  public:
    explicit Budget(std::uint64_t cap) : cap_(cap) {}

    std::uint64_t cap() const { return cap_; }
    std::uint64_t used() const { return used_; }
    void measured(std::uint64_t bytes) { used_ = bytes; }
    void filled(std::uint64_t bytes) { used_ += bytes; }
    void zapped(std::uint64_t bytes) { used_ -= std::min(used_, bytes); }

    /// Below it nothing is registered. 85% of the cap; earlier for a small cap, since what fresh memory takes
    /// between two looks does not shrink with the cap (huge pages: several MiB a millisecond).
    std::uint64_t engage_at() const {
        return cap_ - std::max(cap_ / 100 * 15, std::min(kHeadroomMin, cap_ / 2));
    }
    /// Reclaim works while more than this is used: room for what programs take between two looks.
    std::uint64_t target() const { return cap_ - std::clamp(cap_ / 50, kTargetGapMin, kTargetGapMax); }
    bool wants_reclaim() const { return used_ > target(); }
    std::uint64_t excess() const { return used_ > target() ? used_ - target() : 0; }
    /// Faults that need a page wait from here on.
    bool has_room(std::uint64_t bytes) const { return used_ + bytes <= cap_; }
    std::uint64_t room() const { return used_ < cap_ ? cap_ - used_ : 0; }

    /// How long memory can be left unwatched: nobody takes it faster than about 10 GB/s.
    std::chrono::nanoseconds poll_period() const {
        const std::uint64_t limit = used_ < engage_at() ? engage_at() : target();
        const std::uint64_t headroom = limit > used_ ? limit - used_ : 0;
        constexpr double kBytesPerNanosecond = 10.0;
        const auto period = std::chrono::nanoseconds(
            static_cast<std::int64_t>(static_cast<double>(headroom) / kBytesPerNanosecond));
        return std::clamp<std::chrono::nanoseconds>(period, std::chrono::milliseconds(1),
                                                    std::chrono::milliseconds(250));
    }

  private:
    static constexpr std::uint64_t kHeadroomMin = 48u << 20;
    static constexpr std::uint64_t kTargetGapMin = 2u << 20;
    static constexpr std::uint64_t kTargetGapMax = 64u << 20;

    std::uint64_t cap_;
    std::uint64_t used_ = 0;
};

}  // namespace farswap
