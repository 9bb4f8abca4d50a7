// The blocks of one store: which are free, how many records lie in each of the others, and which wait because
// an earlier write may still land on them. Does no I/O.
#pragma once

#include <cstdint>

#include "base/zero_table.h"
#include "farswap/store.h"
#include "swap/place.h"
#include "swap/slot_allocator.h"

namespace farswap {

/// A block is handed out with others as the room of one write, and comes back when the last of the records in
/// it is gone. Its holes are not filled: all that lies in a block was written, and is lost or safe, together.
/// So a store is never full while it holds fewer records than half of its blocks; with records that are all
/// as long as a block, all of them.
class BlockMap {
  public:
    static Result<BlockMap> create(const Store& store, std::uint32_t blocks);

    /// Takes blocks below `limit`, whose space is reserved now, into use.
    void extend(std::uint32_t limit) noexcept;
    /// Up to `count_max` neighbouring blocks. Each must get a record at once.
    SlotAllocator::Run allocate(std::uint32_t count_max) noexcept { return free_.allocate(count_max); }
    /// Gives back what was allocated last but the first `used` blocks, which are all that have records.
    void trim(SlotAllocator::Run run, std::uint32_t used) noexcept { free_.trim(run, used); }
    /// A record has got this place.
    void add(Place place) noexcept;
    /// A record has given this place up.
    void remove(Place place) noexcept;
    /// Records in the block.
    std::uint32_t records(std::uint32_t block) const noexcept { return records_[block]; }

    /// Hands parked blocks out again whose doubts are over. Looks at no more than `looks_max`.
    void unpark(std::uint32_t looks_max) noexcept;
    std::uint32_t parked() const noexcept { return parked_; }

    std::uint32_t capacity() const noexcept { return free_.capacity(); }
    std::uint32_t limit() const noexcept { return free_.limit(); }
    std::uint32_t free() const noexcept { return free_.free(); }
    /// Those with records, and parked ones.
    std::uint32_t used() const noexcept { return free_.used(); }

  private:
    BlockMap(const Store& store, SlotAllocator free, ZeroTable<std::uint8_t> records,
             ZeroTable<std::uint32_t> next) noexcept
        : store_(&store),
          free_(std::move(free)),
          records_(std::move(records)),
          next_parked_(std::move(next)) {}

    bool in_doubt(std::uint32_t block, std::uint32_t count) const noexcept;
    void park(std::uint32_t block) noexcept;

    const Store* store_;
    SlotAllocator free_;
    ZeroTable<std::uint8_t> records_;
    ZeroTable<std::uint32_t> next_parked_;  ///< a queue; memory is used for it only where blocks were parked
    std::uint32_t parked_head_ = 0;
    std::uint32_t parked_tail_ = 0;
    std::uint32_t parked_ = 0;
};

}  // namespace farswap
