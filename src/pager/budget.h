// The RAM budget of a job: what is used, and what that means for faults, reclaim and polling. Pure
// arithmetic.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

#include "farswap/request.h"

namespace farswap {

/// What compressed pages may take of a cap, at most, on their way to a store: the program needs some room to
/// run in.
constexpr std::uint64_t cache_tier_max(std::uint64_t cap) {
    return cap < (256u << 20) ? cap / 2 : cap / 4 * 3;
}

/// Sizes in bytes. `used` is the sum of the processes' memory and the pager's own, as last measured,
/// corrected by what was filled and zapped since.
class Budget {
  public:
    /// `machine`: the RAM that there is for the job and the pager; less than the cap if somebody wants it so.
    explicit Budget(std::uint64_t cap, std::uint64_t machine = ~std::uint64_t{0})
        : cap_(cap), machine_(machine) {}

    std::uint64_t cap() const { return cap_; }
    /// From now on; what is used above a lower one has yet to go.
    void set_cap(std::uint64_t cap) {
        cap_ = cap;
        lent_ = std::min(lent_, soft_limit() - cap_);
    }
    /// All is registered from the start on, cap or not (chaos.h).
    void be_chaotic() { chaotic_ = true; }
    std::uint64_t used() const { return used_; }
    void measured(std::uint64_t bytes) {
        // What was neither filled by us nor zapped although all was registered: new mappings, copies on
        // write.
        const std::uint64_t surge = used_ >= engage_at() && bytes > used_ ? bytes - used_ : 0;
        surge_ = std::max(surge, surge_ - surge_ / kSurgeDecay);
        used_ = bytes;
        lent_ -= std::min(lent_, lent_ / kLoanDecay + kLoanDecay);
    }
    void filled(std::uint64_t bytes) { used_ += bytes; }
    void zapped(std::uint64_t bytes) { used_ -= std::min(used_, bytes); }

    /// Below it nothing is registered. 85% of the cap; earlier for a small cap, since what fresh memory takes
    /// between two looks does not shrink with the cap (huge pages: several MiB a millisecond).
    std::uint64_t engage_at() const {
        if (chaotic_) return 0;
        return cap_ - std::max(cap_ / 100 * 15, std::min(kHeadroomMin, cap_ / 4 * 3));
    }
    /// Reclaim works while more than this is used: room for what programs take between two looks, by what
    /// they took of late.
    std::uint64_t target() const {
        const std::uint64_t gap = std::clamp(cap_ / 50, kTargetGapMin, kTargetGapMax);
        return cap_ + lent_ - std::max(gap, std::min(kSurges * surge_, cap_ / 4));
    }
    bool wants_reclaim() const { return used_ > target(); }
    /// Faults that need a page wait from here on.
    bool has_room(std::uint64_t bytes) const {
        return (overdraft_ && bytes <= kPageSize) || used_ + bytes <= cap_ + lent_;
    }
    /// While it is on, there is room for whoever asks for one page: nothing can leave, and he must go on
    /// before it can. Not for a run: 64 who wait for a copy each would get 16 MiB at once.
    void allow_overdraft(bool on) { overdraft_ = on; }
    /// Raises the cap to the soft limit for about a second: what must stay leaves no room for what the
    /// program works with, which would leave and come back page by page.
    void lend() { lent_ = soft_limit() - cap_; }
    /// What may be used for a while when nothing can leave, so that somebody can go on; and at the very most.
    std::uint64_t soft_limit() const {
        return cap_ + std::min(std::max(cap_ / 50, kSoftSlackMin), slack_max());
    }
    std::uint64_t hard_limit() const {
        return cap_ + std::min(std::max(cap_ / 100 * 8, kHardSlackMin), slack_max());
    }
    std::uint64_t room() const { return used_ < cap_ ? cap_ - used_ : 0; }

    /// How long it takes a program, at the least, to fill what is left of the cap.
    std::chrono::nanoseconds time_to_fill() const { return time_for(room()); }

    /// How long memory can be left unwatched.
    std::chrono::nanoseconds poll_period() const {
        const std::uint64_t limit = used_ < engage_at() ? engage_at() : target();
        return std::clamp<std::chrono::nanoseconds>(time_for(limit > used_ ? limit - used_ : 0),
                                                    std::chrono::milliseconds(1),
                                                    std::chrono::milliseconds(chaotic_ ? 5 : 250));
    }

  private:
    std::uint64_t slack_max() const {
        return std::max(machine_ > cap_ ? (machine_ - cap_) / 4 : 0, kSlackLeast);
    }
    /// Nobody takes memory faster than about 10 GB/s, which is 10 bytes a nanosecond.
    static std::chrono::nanoseconds time_for(std::uint64_t bytes) {
        return std::chrono::nanoseconds(static_cast<std::int64_t>(bytes / 10));
    }

    static constexpr std::uint64_t kHeadroomMin = 64u << 20;
    static constexpr std::uint64_t kLoanDecay = 256;  // of a loan, a share is taken back at each look
    static constexpr std::uint64_t kSlackLeast = 1u << 20;
    static constexpr std::uint64_t kSoftSlackMin = 12u << 20;
    static constexpr std::uint64_t kHardSlackMin = 48u << 20;
    static constexpr std::uint64_t kTargetGapMin = 2u << 20;
    static constexpr std::uint64_t kTargetGapMax = 64u << 20;
    static constexpr std::uint64_t kSurges = 2;        // room for so many of the largest
    static constexpr std::uint64_t kSurgeDecay = 256;  // of a surge, a share is forgotten at each look

    std::uint64_t cap_;
    std::uint64_t machine_;
    std::uint64_t used_ = 0;
    std::uint64_t surge_ = 0;
    std::uint64_t lent_ = 0;
    bool overdraft_ = false;
    bool chaotic_ = false;
};

}  // namespace farswap
