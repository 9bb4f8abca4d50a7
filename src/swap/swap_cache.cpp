// The frames' table and its lists. Knows nothing of stores.
#include "swap/swap_cache.h"

#include "base/assert.h"

namespace farswap {

Result<SwapCache> SwapCache::create(Pool& pool) {
    Result<ZeroTable<Frame>> frames = ZeroTable<Frame>::create(pool.frames());
    if (!frames) return std::unexpected(std::move(frames.error()));
    return SwapCache(pool, std::move(*frames));
}

void SwapCache::attach(FrameIndex frame, SlotId slot) noexcept {
    FARSWAP_ASSERT(slot_of(frame) == kNoSlot);
    Frame& entry = frames_[frame];
    FARSWAP_ASSERT(entry.waiters.empty());
    entry.slot_plus_1 = slot + 1;
    entry.prev = entry.next = kNoFrame;
    entry.epoch = 0;
    entry.spent = 0;
    entry.overdue = 0;
    entry.lent = 0;
    entry.placed = 0;
    entry.first_unit = 0;
}

void SwapCache::release(FrameIndex frame) noexcept {
    FARSWAP_ASSERT(slot_of(frame) != kNoSlot);
    FARSWAP_ASSERT(frames_[frame].waiters.empty());
    frames_[frame].slot_plus_1 = 0;
    pool_->release(frame);
}

void SwapCache::push_back(FrameList& list, FrameIndex frame) noexcept {
    Frame& entry = frames_[frame];
    entry.prev = list.tail;
    entry.next = kNoFrame;
    (list.tail == kNoFrame ? list.head : frames_[list.tail].next) = frame;
    list.tail = frame;
    ++list.size;
}

void SwapCache::remove(FrameList& list, FrameIndex frame) noexcept {
    FARSWAP_ASSERT(list.size > 0);
    Frame& entry = frames_[frame];
    (entry.prev == kNoFrame ? list.head : frames_[entry.prev].next) = entry.next;
    (entry.next == kNoFrame ? list.tail : frames_[entry.next].prev) = entry.prev;
    entry.prev = entry.next = kNoFrame;
    --list.size;
}

}  // namespace farswap
