// What was under way whenever the pager was killed. Knows nothing of how it goes on.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "base/step.h"
#include "swap/swap_area.h"

namespace farswap {

/// Plain numbers: a kill is counted by another process that shares the pager's memory (keeper::Look).
class KillCensus {
  public:
    /// What is under way besides what the loop's thread does itself.
    struct UnderWay {
        std::uint32_t moves =
            0;  ///< MOVEs that agents were asked for, and whose pages are not all taken over
        SwapArea::UnderWay stores;
    };

    /// One more. `has_begun`: false for an heir that had not become its predecessor yet, so that nothing has
    /// changed since the kill before.
    void count(bool has_begun, Step step, const UnderWay& under_way) noexcept;

    std::uint32_t kills() const noexcept { return kills_; }
    /// "kills=9 not_begun=1 in: staged=2 ... with: move=3 ...": in which step the loop's thread was, each
    /// kill in one place; and how many kills found at least one of these under way.
    std::string text() const;

  private:
    static constexpr unsigned kKinds = 5;

    std::uint32_t kills_ = 0, not_begun_ = 0;
    std::array<std::uint32_t, kSteps> in_{};
    std::array<std::uint32_t, kKinds> with_{};
};

/// That of this process's pager. Counts nothing of stores while there is no area.
namespace kills {

/// `area` is to be read at each kill until another one is given; null: none is.
void watch(const SwapArea* area) noexcept;
/// Runs in the keeper: reads numbers that lie where they are as long as there is an area, and no list that a
/// kill may have left half changed.
void note(bool has_begun) noexcept;
std::string so_far();

}  // namespace kills

}  // namespace farswap
