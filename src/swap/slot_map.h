// The slot map: 24 bytes a slot with its tag, seal number, frame, state and count. A table; the rules are in
// slot_state.h, what a tag is in page_records.h.
#pragma once

#include <cstdint>

#include "base/assert.h"
#include "base/zero_table.h"
#include "page/pool.h"
#include "swap/seal.h"
#include "swap/slot_state.h"
#include "swap/swap_area.h"

namespace farswap {

/// All bytes zero is a free slot with count 0, so that the map needs no initialization.
struct SlotEntry {
    std::uint64_t tag;   ///< by which the page is known again; of a page that is all one word, that word
    SealNumber seal;     ///< of its record; 0 until there is one
    std::uint32_t link;  ///< the frame while has_frame(state); else the first unit of its place
    std::uint32_t word;  ///< bits 0-3 state, 4-7 units of its record, 8-31 count
};
static_assert(sizeof(SlotEntry) == 24);

class SlotMap {
  public:
    static constexpr std::uint32_t kCountMax = 0xffffff;  ///< processes that may share one slot

    static Result<SlotMap> create(std::uint64_t slots);

    std::uint64_t slots() const noexcept { return entries_.size(); }

    SlotState state(SlotId slot) const noexcept { return static_cast<SlotState>(at(slot).word & kStateMask); }
    void set_state(SlotId slot, SlotState state) noexcept {
        SlotEntry& entry = at(slot);
        entry.word = (entry.word & ~kStateMask) | static_cast<std::uint32_t>(state);
    }

    /// The frame that the slot owns, or kNoFrame.
    FrameIndex frame(SlotId slot) const noexcept { return has_frame(state(slot)) ? at(slot).link : kNoFrame; }
    void set_frame(SlotId slot, FrameIndex frame) noexcept { at(slot).link = frame; }

    /// Where its record begins, while it has no frame (the cache keeps it for those that have one).
    std::uint32_t first_unit(SlotId slot) const noexcept {
        FARSWAP_ASSERT(!has_frame(state(slot)));
        return at(slot).link;
    }
    void set_first_unit(SlotId slot, std::uint32_t unit) noexcept {
        FARSWAP_ASSERT(!has_frame(state(slot)));
        at(slot).link = unit;
    }
    /// The length of its record, 1 to kUnitsPerBlock; 0 until it has been made.
    std::uint32_t units(SlotId slot) const noexcept { return at(slot).word >> kUnitsShift & kUnitsMask; }
    void set_units(SlotId slot, std::uint32_t units) noexcept {
        SlotEntry& entry = at(slot);
        entry.word = (entry.word & ~(kUnitsMask << kUnitsShift)) | units << kUnitsShift;
    }

    std::uint64_t tag(SlotId slot) const noexcept { return at(slot).tag; }
    SealNumber seal(SlotId slot) const noexcept { return at(slot).seal; }
    void set_tag(SlotId slot, std::uint64_t tag, SealNumber seal) noexcept {
        at(slot).tag = tag;
        at(slot).seal = seal;
    }

    std::uint32_t count(SlotId slot) const noexcept { return at(slot).word >> kCountShift; }
    /// One more reference. Passing kCountMax is a broken invariant: counts never saturate.
    void increment(SlotId slot) noexcept {
        FARSWAP_ASSERT(count(slot) < kCountMax);
        at(slot).word += 1u << kCountShift;
    }
    /// One less; returns what is left.
    std::uint32_t decrement(SlotId slot) noexcept {
        FARSWAP_ASSERT(count(slot) > 0);
        at(slot).word -= 1u << kCountShift;
        return count(slot);
    }

  private:
    static constexpr std::uint32_t kStateMask = 0xf;
    static constexpr unsigned kUnitsShift = 4;
    static constexpr std::uint32_t kUnitsMask = 0xf;
    static constexpr unsigned kCountShift = 8;
    static_assert(kSlotStates <= kStateMask + 1);

    explicit SlotMap(ZeroTable<SlotEntry> entries) noexcept : entries_(std::move(entries)) {}

    SlotEntry& at(SlotId slot) noexcept {
        FARSWAP_ASSERT(slot < entries_.size());
        return entries_[slot];
    }
    const SlotEntry& at(SlotId slot) const noexcept {
        FARSWAP_ASSERT(slot < entries_.size());
        return entries_[slot];
    }

    ZeroTable<SlotEntry> entries_;
};

}  // namespace farswap
