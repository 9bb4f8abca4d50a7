// A set of pages of a store, as one bit each. Knows numbers only: no pages, no I/O.
#pragma once

#include <cstdint>

#include "base/result.h"
#include "base/zero_table.h"

namespace farswap {

/// Sized for a whole store and paid for by what was ever marked (base/zero_table.h). Allocates nothing after
/// create(). Pages are numbered from 0.
class PageMarks {
  public:
    struct Run {
        std::uint64_t first = 0;
        std::uint64_t count = 0;  ///< 0: none
    };

    static Result<PageMarks> create(std::uint64_t pages);

    void set(Run run) noexcept;
    void clear(Run run) noexcept;
    bool any(Run run) const noexcept;
    bool all(Run run) const noexcept;
    bool empty() const noexcept { return marked_ == 0; }
    std::uint64_t marked() const noexcept { return marked_; }

    /// The first marked page at or after `from` with the marked ones behind it, at most `count_max`.
    Run next(std::uint64_t from, std::uint64_t count_max) const noexcept;

  private:
    PageMarks(ZeroTable<std::uint64_t> bits, ZeroTable<std::uint64_t> used, std::uint64_t pages) noexcept
        : bits_(std::move(bits)), used_(std::move(used)), pages_(pages) {}

    template <typename Change>
    void change(Run run, Change word_of) noexcept;
    bool test(std::uint64_t page) const noexcept { return (bits_[page / 64] >> (page % 64) & 1) != 0; }

    ZeroTable<std::uint64_t> bits_;  ///< a bit a page
    ZeroTable<std::uint64_t> used_;  ///< a bit a word of bits_: it is not zero
    std::uint64_t pages_ = 0;
    std::uint64_t marked_ = 0;
};

}  // namespace farswap
