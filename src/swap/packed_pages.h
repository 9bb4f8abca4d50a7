// Records kept in memory: compressed pages that go no further. Knows lengths and numbers, not whose they are.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "base/zero_table.h"
#include "swap/place.h"
#include "swap/slot_allocator.h"

namespace farswap {

/// Each length of a record, in units, has memory of its own, in slabs of eight: a slab of records of n units
/// is n pages, without a hole. The lowest free place is taken, so that what is in use gathers at the low end,
/// and a slab gives its memory back when its last record goes. One thread. Allocates nothing after create().
class PackedPages {
  public:
    static constexpr std::uint32_t kNone = 0xffffffffu;

    /// For records of `limit` bytes together, whatever their lengths. Takes address space for eight times as
    /// much.
    static Result<PackedPages> create(std::uint64_t limit);

    /// Keeps a copy of a record of 1 to kUnitsPerBlock units. Its number among those of its length; kNone:
    /// that is more than the limit.
    std::uint32_t add(const std::byte* record, std::uint32_t units) noexcept;
    const std::byte* record(std::uint32_t number, std::uint32_t units) const noexcept;
    void remove(std::uint32_t number, std::uint32_t units) noexcept;

    /// Records as long as a page that there is room for.
    std::uint64_t room() const noexcept { return (limit_ - bytes_) / kPageSize; }
    std::uint64_t bytes() const noexcept { return bytes_; }
    std::uint64_t records() const noexcept { return records_; }
    std::uint64_t limit() const noexcept { return limit_; }
    /// The most bytes so far, and how many records that were.
    std::uint64_t bytes_peak() const noexcept { return bytes_peak_; }
    std::uint64_t records_at_peak() const noexcept { return records_at_peak_; }

  private:
    static constexpr std::uint32_t kSlab = 8;  ///< records
    struct Length {
        ZeroTable<std::byte> memory;
        SlotAllocator numbers;
    };

    PackedPages(std::array<Length, kUnitsPerBlock> lengths, std::uint64_t limit) noexcept
        : lengths_(std::move(lengths)), limit_(limit) {}

    std::array<Length, kUnitsPerBlock> lengths_;  ///< of 1 unit, of 2, ...
    std::uint64_t limit_;
    std::uint64_t bytes_ = 0;
    std::uint64_t records_ = 0;
    std::uint64_t bytes_peak_ = 0;
    std::uint64_t records_at_peak_ = 0;
};

}  // namespace farswap
