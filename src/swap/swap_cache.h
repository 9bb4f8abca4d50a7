// The swap cache: which frame holds which slot's page, and in what order clean frames are reused. Fixed
// tables over the pool's frames; knows nothing of stores and of the rules by which pages come and go.
#pragma once

#include <cstdint>

#include "base/zero_table.h"
#include "page/pool.h"
#include "swap/fetch_list.h"
#include "swap/swap_area.h"

namespace farswap {

/// Frames in order, linked through the cache's table. A frame is on at most one list.
struct FrameList {
    FrameIndex head = kNoFrame;
    FrameIndex tail = kNoFrame;
    std::uint32_t size = 0;
};

class SwapCache {
  public:
    static Result<SwapCache> create(Pool& pool);

    Pool& pool() const noexcept { return *pool_; }

    /// A frame that is the user's, to be filled and added. Not on any list.
    bool lent(FrameIndex frame) const noexcept { return frames_[frame].lent; }
    void set_lent(FrameIndex frame, bool lent) noexcept { frames_[frame].lent = lent; }

    /// The frame holds, or is about to receive, the slot's page. The owner's reference of the frame is the
    /// cache's from now on.
    void attach(FrameIndex frame, SlotId slot) noexcept;
    /// Gives the frame back to the pool. Nobody may wait for it.
    void release(FrameIndex frame) noexcept;
    /// kNoSlot when the frame is not the cache's.
    SlotId slot_of(FrameIndex frame) const noexcept { return frames_[frame].slot_plus_1 - 1; }

    void push_back(FrameList& list, FrameIndex frame) noexcept;
    void remove(FrameList& list, FrameIndex frame) noexcept;
    FrameIndex next(FrameIndex frame) const noexcept { return frames_[frame].next; }

    static constexpr std::uint32_t kEpochMask = 0x0fffffff;
    /// Which flush will cover the write of the frame's page (see WriteOut).
    std::uint32_t epoch(FrameIndex frame) const noexcept { return frames_[frame].epoch; }
    void set_epoch(FrameIndex frame, std::uint32_t epoch) noexcept {
        frames_[frame].epoch = epoch & kEpochMask;
    }

    /// The page's only user has its own copy now: this one is the first to go.
    bool spent(FrameIndex frame) const noexcept { return frames_[frame].spent; }
    void set_spent(FrameIndex frame) noexcept { frames_[frame].spent = true; }

    /// The page has nowhere to go but to its store, and has waited for that elsewhere.
    bool overdue(FrameIndex frame) const noexcept { return frames_[frame].overdue; }
    void set_overdue(FrameIndex frame) noexcept { frames_[frame].overdue = true; }

    /// Where the record of the frame's page begins, and whether it has a place at all.
    std::uint32_t first_unit(FrameIndex frame) const noexcept { return frames_[frame].first_unit; }
    bool placed(FrameIndex frame) const noexcept { return frames_[frame].placed; }
    void set_place(FrameIndex frame, std::uint32_t first_unit) noexcept {
        frames_[frame].first_unit = first_unit;
        frames_[frame].placed = true;
    }

    /// Those who wait for the read into the frame.
    FetchList& waiters(FrameIndex frame) noexcept { return frames_[frame].waiters; }

    std::byte* address(FrameIndex frame) const noexcept { return pool_->address(frame); }

    /// The frames that hold pages of the cache; walks the table.
    template <typename Visit>
    void for_each(Visit visit) {
        for (FrameIndex frame = 0; frame < frames_.size(); ++frame)
            if (slot_of(frame) != kNoSlot) visit(frame);
    }

  private:
    /// All zero is a frame that is not the cache's.
    struct Frame {
        SlotId slot_plus_1;
        FrameIndex prev, next;  ///< in the list of the slot's state
        std::uint32_t epoch : 28;
        std::uint32_t overdue : 1;
        std::uint32_t spent : 1;
        std::uint32_t lent : 1;
        std::uint32_t placed : 1;
        FetchList waiters;
        std::uint32_t first_unit;
    };
    static_assert(sizeof(Frame) == 40);

    SwapCache(Pool& pool, ZeroTable<Frame> frames) noexcept : pool_(&pool), frames_(std::move(frames)) {}

    Pool* pool_;
    ZeroTable<Frame> frames_;
};

}  // namespace farswap
