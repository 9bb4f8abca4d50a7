// Hands out the slots of one store in runs of neighbours. Knows numbers only: no pages, no I/O.
#pragma once

#include <cstdint>

#include "base/result.h"
#include "base/zero_table.h"

namespace farswap {

/// Next-fit over a bitmap: a run is searched from where the last one ended, so that pages that leave together
/// lie together, and freed room is passed over until the search comes round, which lets holes grow together.
/// Looks at up to kRunsTried free runs for one that is long enough and otherwise takes the longest of them,
/// so that one freed slot does not cut a run short while there is better nearby. Allocates nothing after
/// create().
class SlotAllocator {
  public:
    /// Neighbouring slots of this store; count 0 is none.
    struct Run {
        std::uint32_t first = 0;
        std::uint32_t count = 0;
    };

    SlotAllocator() = default;
    /// For at most `capacity` slots; none may be handed out before extend().
    static Result<SlotAllocator> create(std::uint32_t capacity);

    /// Slots below `limit` lie in reserved space and may be handed out. Never shrinks; at most capacity.
    void extend(std::uint32_t limit) noexcept;

    /// Up to `count_max` neighbouring slots, as many as can be found at once; empty when none is free.
    Run allocate(std::uint32_t count_max) noexcept;
    /// The lowest slot that is free; there is one.
    std::uint32_t allocate_lowest() noexcept;
    /// Whether any of [first, first + count) is allocated; 64 at most, which lie in one aligned group of 64.
    bool any_allocated(std::uint32_t first, std::uint32_t count) const noexcept {
        const std::uint64_t bits = count == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << count) - 1;
        return (used_[first / 64] >> (first % 64) & bits) != 0;
    }
    /// Gives back all of the run that was allocated last but the first `used`; the next search starts there.
    void trim(Run run, std::uint32_t used) noexcept;
    /// Takes slots that are free and below the limit out of what is handed out.
    void take(Run run) noexcept;
    /// Makes one slot free again. A second release is a broken invariant.
    void release(std::uint32_t slot) noexcept;

    bool is_allocated(std::uint32_t slot) const noexcept {
        return (used_[slot / 64] >> (slot % 64) & 1) != 0;
    }
    std::uint32_t capacity() const noexcept { return capacity_; }
    std::uint32_t limit() const noexcept { return limit_; }
    std::uint32_t free() const noexcept { return free_; }
    std::uint32_t used() const noexcept { return limit_ - free_; }

  private:
    static constexpr int kRunsTried = 64;

    SlotAllocator(ZeroTable<std::uint64_t> used, ZeroTable<std::uint64_t> full,
                  std::uint32_t capacity) noexcept
        : used_(std::move(used)), full_(std::move(full)), capacity_(capacity) {}

    std::uint32_t find_free(std::uint32_t from) const noexcept;
    std::uint32_t find_used(std::uint32_t from, std::uint32_t end) const noexcept;
    Run find_run(std::uint32_t from, std::uint32_t count_max) const noexcept;

    ZeroTable<std::uint64_t> used_;  ///< a bit a slot
    ZeroTable<std::uint64_t> full_;  ///< a bit a word of used_: all 64 slots used
    std::uint32_t capacity_ = 0;
    std::uint32_t limit_ = 0;
    std::uint32_t free_ = 0;
    std::uint32_t cursor_ = 0;  ///< where the next search starts
    std::uint32_t lowest_ = 0;  ///< below it none is free
};

}  // namespace farswap
