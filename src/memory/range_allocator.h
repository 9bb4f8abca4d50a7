// Which pages of a range are taken: first fit, its notes on the ordinary heap. Knows nothing of what is in
// the pages.
#pragma once

#include <cstdint>
#include <map>
#include <optional>

namespace farswap {

/// Any thread, one at a time.
class RangeAllocator {
  public:
    explicit RangeAllocator(std::uint64_t pages);

    /// The first of `count` pages that lie next to each other and were free. Nothing when there are none.
    std::optional<std::uint64_t> take(std::uint64_t count);
    /// Gives [first, first + count) of take() back. May throw std::bad_alloc, and has not given it back then.
    void give_back(std::uint64_t first, std::uint64_t count);
    std::uint64_t pages_free() const noexcept { return free_pages_; }

  private:
    std::map<std::uint64_t, std::uint64_t> free_;  // first page -> pages
    std::uint64_t free_pages_;
};

}  // namespace farswap
