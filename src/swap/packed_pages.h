// Records kept in memory: compressed pages, and in what order they came. Knows lengths and numbers, not what
// they are for.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "base/zero_table.h"
#include "swap/place.h"
#include "swap/slot_allocator.h"

namespace farswap {

/// What opens a record that is sealed in memory: a seal number and a tag (seal.h).
struct MemorySeal {
    std::uint64_t number;
    std::uint64_t tag;
};

/// Each length of a record, in units, has memory of its own, in slabs of eight: a slab of records of n units
/// is n pages, without a hole. The lowest free place is taken, so that what is in use gathers at the low end,
/// and a slab gives its memory back when its last record goes. With notes, 24 bytes a record, they are in a
/// queue, and each knows its slot. With seals, 16 bytes a record, there is room for what opens each. One
/// thread. Allocates nothing after create().
class PackedPages {
  public:
    static constexpr std::uint32_t kNone = 0xffffffffu;

    /// Records of one length, as far as their numbers go (Handle).
    static constexpr std::uint32_t kRecordsMax = kNone / kUnitsPerBlock;

    struct With {
        bool notes = false;
        bool seals = false;
    };
    /// For records of `most` bytes together, whatever their lengths, and `records_max` of each length. Takes
    /// address space for eight times as much.
    static Result<PackedPages> create(std::uint64_t most, With with, std::uint32_t records_max = kRecordsMax);
    static Result<PackedPages> create(std::uint64_t most) { return create(most, With()); }

    /// What is known of a record beside its content.
    struct Note {
        std::uint32_t slot;
        std::uint32_t first_unit;  ///< where the same record lies on the store, if it does
        std::uint32_t check;       ///< some bits of the page's checksum
    };

    /// Room for a record of 1 to kUnitsPerBlock units, as the newest, which the caller fills. Its number
    /// among those of its length; kNone: that is more than the limit, or there are as many of that length as
    /// there can be.
    std::uint32_t add(std::uint32_t units, const Note& note = Note()) noexcept;
    std::byte* record(std::uint32_t number, std::uint32_t units) noexcept;
    void remove(std::uint32_t number, std::uint32_t units) noexcept;

    /// With seals: what is known of a record's, the caller's to write and to read.
    MemorySeal& seal(std::uint32_t number, std::uint32_t units) noexcept;

    // With notes.

    const Note& note(std::uint32_t number, std::uint32_t units) const noexcept;
    /// The slot of the record that has been here for longest; kNone when there is none.
    std::uint32_t oldest() const noexcept { return oldest_ == 0 ? kNone : entry(oldest_).note.slot; }
    /// The record is as good as one that has just come.
    void renew(std::uint32_t number, std::uint32_t units) noexcept;
    /// How many records have come since this one did, and since the oldest one.
    std::uint32_t age(std::uint32_t number, std::uint32_t units) const noexcept;
    std::uint32_t age_of_oldest() const noexcept { return oldest_ == 0 ? 0 : came_ - entry(oldest_).came; }

    /// No more than that from now on; at most what it was created for. What is here stays.
    void set_limit(std::uint64_t bytes) noexcept { limit_ = std::min(bytes, most_); }

    /// Records as long as a page that there is room for.
    std::uint64_t room() const noexcept { return (limit_ - std::min(bytes_, limit_)) / kPageSize; }
    std::uint64_t bytes() const noexcept { return bytes_; }
    std::uint64_t records() const noexcept { return records_; }
    std::uint64_t limit() const noexcept { return limit_; }
    /// The most bytes so far, and how many records that were.
    std::uint64_t bytes_peak() const noexcept { return bytes_peak_; }
    std::uint64_t records_at_peak() const noexcept { return records_at_peak_; }

  private:
    static constexpr std::uint32_t kSlab = 8;  ///< records
    /// A record by its number and length: number * kUnitsPerBlock + units; 0 is none.
    using Handle = std::uint32_t;
    struct Entry {
        Note note;
        Handle older, newer;
        std::uint32_t came;  ///< how many had come before
    };
    static_assert(sizeof(Entry) == 24);
    struct Length {
        ZeroTable<std::byte> memory;
        SlotAllocator numbers;
        ZeroTable<Entry> entries;
        ZeroTable<MemorySeal> seals;
    };

    PackedPages(std::array<Length, kUnitsPerBlock> lengths, std::uint64_t most, With with) noexcept
        : lengths_(std::move(lengths)), with_(with), most_(most), limit_(most) {}

    static constexpr Handle handle_of(std::uint32_t number, std::uint32_t units) noexcept {
        return number * kUnitsPerBlock + units;
    }
    Entry& entry(Handle handle) noexcept {
        return lengths_[(handle - 1) % kUnitsPerBlock].entries[(handle - 1) / kUnitsPerBlock];
    }
    const Entry& entry(Handle handle) const noexcept { return const_cast<PackedPages*>(this)->entry(handle); }
    void append(Handle handle) noexcept;
    void unlink(Handle handle) noexcept;

    std::array<Length, kUnitsPerBlock> lengths_;  ///< of 1 unit, of 2, ...
    With with_;
    Handle oldest_ = 0;
    Handle newest_ = 0;
    std::uint32_t came_ = 0;
    std::uint64_t most_;
    std::uint64_t limit_;
    std::uint64_t bytes_ = 0;
    std::uint64_t records_ = 0;
    std::uint64_t bytes_peak_ = 0;
    std::uint64_t records_at_peak_ = 0;
};

}  // namespace farswap
