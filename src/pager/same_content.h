// Whether it pays to look if a page that leaves is still what its slot holds. Knows the answers only.
#pragma once

#include <cstdint>

namespace farswap {

/// A look costs about as much as a seal (1.5 us). A program that changes nearly all of its pages before they
/// leave again is looked at in one of kSample cases only, until that finds enough that have not changed.
class SameContentLooks {
  public:
    bool worth_it() noexcept { return rate_ >= kEnough || ++skipped_ % kSample == 0; }
    void looked(bool same) noexcept { rate_ = rate_ - rate_ / kWeight + (same ? kOne / kWeight : 0); }

  private:
    static constexpr std::uint32_t kOne = 1u << 20;  ///< all were the same
    static constexpr std::uint32_t kWeight = 64;     ///< looks over which it is a mean
    static constexpr std::uint32_t kEnough = kOne / 16;
    static constexpr std::uint32_t kSample = 16;

    std::uint32_t rate_ = kOne;
    std::uint32_t skipped_ = 0;
};

}  // namespace farswap
