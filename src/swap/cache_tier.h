// The cache tier: pages that have left the program stay in memory, compressed, before they go on to their
// store and after they have come back from it. Knows slots and frames, no I/O.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "swap/events.h"
#include "swap/frame_supply.h"
#include "swap/slots.h"
#include "swap/tier_share.h"
#include "swap/write_out.h"

namespace farswap {

/// What zswap is to the kernel's swap. Pages come in two ways: dirty ones that are due to be written, and
/// such as leave the program as they were when they came from their store. The oldest go first: what the
/// store has is dropped, what it has not is expanded into a frame and written. A page that goes back to its
/// only user leaves the tier. Allocates nothing. One thread.
class CacheTier {
  public:
    /// After Slots::keep_on_the_way(most).
    CacheTier(Slots& slots, FrameSupply& frames, const std::vector<std::unique_ptr<WriteOut>>& writes,
              std::uint64_t most) noexcept
        : slots_(slots), frames_(frames), writes_(writes), share_(most) {}

    /// See SwapEvents::offer().
    SwapEvents::Offer offer(SlotId slot) noexcept;
    /// The page of a slot, which its store has, has left the program as it was.
    void offer_unchanged(SlotId slot, const std::byte* page) noexcept;
    /// The page of a slot that is_packed() is wanted.
    void note_found(SlotId slot) noexcept;
    /// Its only user has a copy of his own: it need not be here as well.
    void note_back(SlotId slot) noexcept;
    TierShare& share() noexcept { return share_; }
    const TierShare& share() const noexcept { return share_; }

    /// Lets the oldest go, up to `count` pages, for which frames may be needed: those that are written.
    /// Whether any went.
    bool release(std::uint32_t count) noexcept;

    std::uint64_t pages_found() const noexcept { return pages_found_; }
    std::uint64_t pages_written_back() const noexcept { return pages_written_back_; }

  private:
    void make_room(std::uint64_t bytes) noexcept;
    bool release_oldest() noexcept;
    bool write_back(SlotId slot) noexcept;

    Slots& slots_;
    FrameSupply& frames_;
    const std::vector<std::unique_ptr<WriteOut>>& writes_;
    TierShare share_;
    std::uint64_t pages_found_ = 0;
    std::uint64_t pages_written_back_ = 0;
};

}  // namespace farswap
