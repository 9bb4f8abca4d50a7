// All slots of the area with their frames and queues, and the one place where a slot's state changes. Does no
// I/O.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "farswap/store.h"
#include "io/loop.h"
#include "swap/block_map.h"
#include "swap/fill_pages.h"
#include "swap/packed_pages.h"
#include "swap/page_records.h"
#include "swap/page_window.h"
#include "swap/slot_allocator.h"
#include "swap/slot_map.h"
#include "swap/swap_cache.h"

namespace farswap {

/// One store's share of the slots: [base, base + slots.capacity()). A page gets a slot when it is added, and
/// a place on the store when it is written. There are more slots than blocks, as records are mostly shorter
/// than those.
struct StorePart {
    Store* store;
    SlotId base;
    SlotAllocator slots;
    BlockMap blocks;
    std::uint32_t unplaced = 0;        ///< slots whose pages have no place yet; each may need a block
    FrameList dirty;                   ///< kDirty, in the order in which they were added
    FrameList overdue;                 ///< of these, what is to be written first (SwapCache::overdue)
    FrameList written;                 ///< kWritten, in the order in which their writes ended
    io::Clock::time_point answered{};  ///< when an operation last succeeded

    bool holds(SlotId slot) const noexcept { return slot - base < slots.capacity(); }
    /// Blocks that pages without a slot may still need.
    std::uint32_t blocks_left() const noexcept { return blocks.free() - unplaced; }
};

class Slots {
  public:
    /// EINVAL when a store holds no record.
    static Result<std::unique_ptr<Slots>> create(Pool& pool,
                                                 const std::vector<std::unique_ptr<Store>>& stores,
                                                 PageRecords records);
    /// Gives all frames back.
    ~Slots();
    Slots(const Slots&) = delete;
    Slots& operator=(const Slots&) = delete;

    const SlotMap& map() const noexcept { return map_; }
    SwapCache& cache() noexcept { return cache_; }
    std::vector<StorePart>& parts() noexcept { return parts_; }
    const std::vector<StorePart>& parts() const noexcept { return parts_; }
    /// The store that the slot lies on.
    StorePart& part_of(SlotId slot) noexcept;
    const StorePart& part_of(SlotId slot) const noexcept { return const_cast<Slots*>(this)->part_of(slot); }

    /// Changes the slot's state by the rules of slot_state.h, moves its frame to the queue of the new state,
    /// and releases frame and slot where the rule says so. An event that the rules do not know aborts.
    void apply(SlotId slot, SlotEvent event) noexcept;

    /// Puts the page in `frame` into the cache under a slot just allocated, dirty, with a count of 1.
    void add(SlotId slot, FrameIndex frame) noexcept;
    /// The same for a page that is all `word`: no frame holds it.
    void add_filled(SlotId slot, std::uint64_t word) noexcept;
    /// The same for a page that stays in memory as `record`, of pack_to_keep(); false: there is no room for
    /// it. Only after keep_in_memory().
    bool add_packed(SlotId slot, const std::byte* page, std::span<const std::byte> record) noexcept;
    /// The slot was allocated and is not needed.
    void give_back(SlotId slot) noexcept;
    /// The slot's page is about to be read into `frame`.
    void start_read(SlotId slot, FrameIndex frame) noexcept;
    void get(SlotId slot) noexcept { map_.increment(slot); }
    /// Returns true when this was the last reference.
    bool put(SlotId slot) noexcept;

    /// Slots for `count_max` pages, at most as many as there are blocks left for; they have no places yet.
    SlotRun allocate(StorePart& part, std::uint32_t count_max) noexcept;
    /// The slot's record gets its place: the units that it has, from this one on. In blocks just allocated.
    void put_at(SlotId slot, std::uint32_t first_unit) noexcept;
    /// Where the slot's record lies. No units: nowhere yet.
    Place place_of(SlotId slot) const noexcept;

    /// The page of a slot that is kFilled; see FillPages for how long it stays.
    const std::byte* fill_page(SlotId slot) noexcept { return fills_.page(slot, map_.tag(slot)); }

    // Pages in memory, compressed: instead of on a store, or on their way there (cache_tier.h).

    /// Nothing is to leave memory: compressed pages of `limit` bytes together are kept. ENOMEM.
    Status keep_in_memory(std::uint64_t limit) { return make_packed(limit, false); }
    /// Compressed pages of at most `most` bytes together may be kept for a while. ENOMEM.
    Status keep_on_the_way(std::uint64_t most) { return make_packed(most, true); }
    /// Null unless one of these was asked for.
    const PackedPages* packed() const noexcept { return packed_ ? &*packed_ : nullptr; }
    PackedPages* packed() noexcept { return packed_ ? &*packed_ : nullptr; }
    bool stays_in_memory() const noexcept { return packed_ && !on_the_way_; }
    /// The page of a slot that is_packed(); it stays as long as one of fill_page().
    const std::byte* packed_page(SlotId slot) noexcept;
    /// Compresses a page that is kDirty and has no place yet, and gives its frame up; not one that takes more
    /// than `units_max` (EFBIG), or more than there is room for (ENOSPC). 0 or the error.
    int pack_away(SlotId slot, std::uint32_t units_max) noexcept;
    /// The page of a slot that is kPacked gets a frame (not the cache's) again: kDirty, and overdue.
    void unpack(SlotId slot, FrameIndex frame) noexcept;
    /// Keeps the page of a slot that is kStored, compressed, as well; `page` is what it holds. False: no room
    /// for it, or its record is no smaller.
    bool pack_too(SlotId slot, const std::byte* page, std::uint32_t units_max) noexcept;
    /// The slot's page was wanted once more.
    void renew(SlotId slot) noexcept { packed_->renew(map_.first_unit(slot), map_.units(slot)); }
    /// How many pages have been packed since this one was.
    std::uint32_t packed_age(SlotId slot) const noexcept {
        return packed_->age(map_.first_unit(slot), map_.units(slot));
    }

    std::span<const std::byte> pack_to_keep(const std::byte* page) noexcept {
        return records_.pack_to_keep(page);
    }

    // Records; see page_records.h.
    bool sealed() const noexcept { return records_.sealed(); }
    std::uint32_t seal_epoch() const noexcept { return records_.seal_epoch(); }
    bool records_differ() const noexcept { return records_.differ(); }
    bool unchanged(SlotId slot, const std::byte* page) const noexcept {
        return records_.unchanged(map_, slot, page);
    }
    void make_record(SlotId slot, const std::byte* page, std::byte* record) noexcept {
        records_.make(map_, slot, store_of(slot), page, record);
    }
    /// The record is the page.
    void take_whole(SlotId slot) noexcept { map_.set_units(slot, kUnitsPerBlock); }
    [[nodiscard]] bool open_record(SlotId slot, std::byte* record, std::byte* page) noexcept {
        return records_.open(map_, slot, store_of(slot), record, page);
    }
    /// Whether `page` is what the slot holds, wherever that is.
    bool holds(SlotId slot, const std::byte* page) noexcept;

    /// The page's user has copied it out of the cache.
    void note_use(SlotId slot) noexcept;

    /// Clean pages, least recently used first.
    const FrameList& clean() const noexcept { return clean_; }
    /// Clean pages that their only user has copied out; the first to be dropped.
    const FrameList& spent() const noexcept { return spent_; }
    std::uint32_t frames_clean() const noexcept { return clean_.size + spent_.size; }
    std::uint32_t frames_cached() const noexcept { return frames_cached_; }

  private:
    Slots(SlotMap map, SwapCache cache, std::vector<StorePart> parts, PageRecords records, FillPages fills)
        : map_(std::move(map)),
          cache_(std::move(cache)),
          parts_(std::move(parts)),
          records_(std::move(records)),
          fills_(std::move(fills)) {}

    std::uint32_t store_of(SlotId slot) const noexcept {
        return static_cast<std::uint32_t>(&part_of(slot) - parts_.data());
    }
    FrameList* queue_of(SlotId slot, SlotState state, FrameIndex frame) noexcept;
    MemorySeal* seal_of(std::uint32_t number, std::uint32_t units) noexcept;
    std::uint32_t keep_record(std::span<const std::byte> record, const PackedPages::Note& note) noexcept;
    void expand(SlotId slot, std::byte* page) noexcept;
    Status make_packed(std::uint64_t most, bool on_the_way);
    void remove_packed(SlotId slot, SlotState next) noexcept;
    void give_up_frame(SlotId slot, FrameIndex frame) noexcept;
    void forget_unplaced(SlotId slot) noexcept;
    void free_slot(SlotId slot) noexcept;

    SlotMap map_;
    SwapCache cache_;
    std::vector<StorePart> parts_;
    PageRecords records_;
    FillPages fills_;
    std::optional<PackedPages> packed_;
    bool on_the_way_ = false;  ///< packed pages may go on to their stores
    std::optional<PageWindow> unpacked_;
    FrameList clean_;
    FrameList spent_;
    std::uint32_t frames_cached_ = 0;
};

}  // namespace farswap
