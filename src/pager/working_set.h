// Which pages are in use, as far as that can be told of those that come back.
//
// User space sees no accessed bits. What it sees is how long a page was outside before somebody wanted it:
// its refault distance, counted in pages that left meanwhile (mm/workingset.c uses the same measure). A page
// that comes back after few is wanted often, and once it is inside nothing tells so again. So it keeps what
// it has earned, its heat, for as long as it is known, and the sweep passes it by as often as that.
#pragma once

#include <algorithm>
#include <cstdint>

#include "pager/page_state.h"

namespace farswap {

/// One thread.
class WorkingSet {
  public:
    /// So many pages have left, of a job of which so many can be inside.
    void left(std::uint64_t pages, std::uint64_t inside) noexcept {
        left_ += pages;
        const std::uint64_t tick = std::max<std::uint64_t>(inside / kTicksARound, 1);
        now_ = static_cast<std::uint8_t>(now_ + left_ / tick);
        left_ %= tick;
    }
    /// What a page that leaves now is marked with: a clock of 8 ticks for as many pages as can be inside.
    /// After 32 times these a page that comes back is mistaken for one that left not long ago.
    std::uint8_t now() const noexcept { return now_; }

    /// Of a far page that somebody wants.
    Warmth refaulted(PageWord far) const noexcept {
        const auto distance = static_cast<std::uint8_t>(now_ - far.left_at());
        std::uint32_t heat = far.heat();
        if (distance < kTicksARound)
            heat = std::min<std::uint32_t>(heat + (distance < kTicksARound / 4 ? 3 : 1), Warmth::kMost);
        else
            heat /= 2;
        return {static_cast<std::uint8_t>(heat), static_cast<std::uint8_t>(heat)};
    }
    /// Of one that a walk through memory comes by, or that comes along with another: that it is wanted again
    /// is not to be expected.
    static Warmth passed_through(PageWord far) noexcept { return {far.heat(), 0}; }

    /// A sweep has found so many pages that may leave, and passed so many by.
    void swept(std::uint32_t chosen, std::uint32_t passed) noexcept {
        const std::uint32_t each = 256 * passed / std::max<std::uint32_t>(chosen, 1);
        passed_ += (static_cast<std::int64_t>(each) - passed_) / 16;
    }
    /// How many of its turns a page loses each time that it is passed by: more when so many have some that
    /// the sweep would go round and round for a few that may leave.
    std::uint32_t turns_at_once() const noexcept {
        return passed_ > std::int64_t{16} * 256 ? 4 : passed_ > std::int64_t{8} * 256 ? 2 : 1;
    }

  private:
    static constexpr std::uint32_t kTicksARound = 8;

    std::uint64_t left_ = 0;  ///< since the last tick
    std::uint8_t now_ = 0;
    std::int64_t passed_ = 0;  ///< 256ths, for each page that was chosen; of late
};

}  // namespace farswap
