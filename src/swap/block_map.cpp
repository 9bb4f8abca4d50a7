// See block_map.h.
#include "swap/block_map.h"

#include <algorithm>

#include "base/assert.h"

namespace farswap {

Result<BlockMap> BlockMap::create(const Store& store, std::uint32_t blocks) {
    Result<SlotAllocator> free = SlotAllocator::create(blocks);
    if (!free) return std::unexpected(std::move(free.error()));
    Result<ZeroTable<std::uint8_t>> records = ZeroTable<std::uint8_t>::create(blocks);
    if (!records) return std::unexpected(std::move(records.error()));
    Result<ZeroTable<std::uint32_t>> next = ZeroTable<std::uint32_t>::create(blocks);
    if (!next) return std::unexpected(std::move(next.error()));
    return BlockMap(store, std::move(*free), std::move(*records), std::move(*next));
}

bool BlockMap::in_doubt(std::uint32_t block, std::uint32_t count) const noexcept {
    return store_->in_doubt(block_offset(block), std::uint64_t{count} * kBlockBytes);
}

/// Space is reserved by writes too, and those may be in doubt.
void BlockMap::extend(std::uint32_t limit) noexcept {
    const std::uint32_t old = free_.limit();
    free_.extend(limit);
    if (!in_doubt(old, limit - old)) return;
    for (std::uint32_t block = old; block < limit; ++block) {
        if (!in_doubt(block, 1)) continue;
        free_.take({block, 1});
        park(block);
    }
}

void BlockMap::add(Place place) noexcept {
    for (std::uint32_t block = place.first_block(); block <= place.last_block(); ++block) {
        FARSWAP_ASSERT(free_.is_allocated(block) && records_[block] <= kUnitsPerBlock);
        ++records_[block];
    }
}

void BlockMap::remove(Place place) noexcept {
    for (std::uint32_t block = place.first_block(); block <= place.last_block(); ++block) {
        FARSWAP_ASSERT(records_[block] > 0);
        if (--records_[block] > 0) continue;
        if (in_doubt(block, 1))
            park(block);
        else
            free_.release(block);
    }
}

void BlockMap::park(std::uint32_t block) noexcept {
    (parked_++ == 0 ? parked_head_ : next_parked_[parked_tail_]) = block;
    parked_tail_ = block;
}

void BlockMap::unpark(std::uint32_t looks_max) noexcept {
    for (std::uint32_t looks = std::min(looks_max, parked_); looks > 0; --looks) {
        const std::uint32_t block = parked_head_;
        parked_head_ = next_parked_[block];
        --parked_;
        // Doubts do not end in the order in which they arose: one that stays must not hide the others.
        if (in_doubt(block, 1))
            park(block);
        else
            free_.release(block);
    }
}

}  // namespace farswap
