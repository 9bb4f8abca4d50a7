// Whether something that costs time and often fails is worth trying once more. Knows its successes only.
#pragma once

#include <cstdint>

namespace farswap {

/// As long as one try of 16 has succeeded lately, each case is worth it; else one case of 16 is, until enough
/// of those succeed. One thread.
class WorthTrying {
  public:
    /// Asked once for each case.
    bool now() noexcept { return rate_ >= kEnough || ++skipped_ % kSample == 0; }
    /// How a try has ended.
    void tried(bool success) noexcept { rate_ = rate_ - rate_ / kWeight + (success ? kAlways / kWeight : 0); }

  private:
    static constexpr std::uint32_t kAlways = 1u << 20;  ///< the rate of one that never fails
    static constexpr std::uint32_t kWeight = 64;        ///< tries over which it is a mean
    static constexpr std::uint32_t kEnough = kAlways / 16;
    static constexpr std::uint32_t kSample = 16;

    std::uint32_t rate_ = kAlways;
    std::uint32_t skipped_ = 0;
};

}  // namespace farswap
