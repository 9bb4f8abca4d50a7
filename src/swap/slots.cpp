// Applies the rules of a slot's life to the tables. Does no I/O.
#include "swap/slots.h"

#include <algorithm>
#include <cstring>

#include "base/assert.h"

namespace farswap {
namespace {

/// Slots for each block: records of two units and more find one each. Pages of one word need slots, too.
constexpr std::uint64_t kSlotsPerBlock = 4;
constexpr std::uint32_t kSlotsAtOnce = 4096;  // taken into use, at least

}  // namespace

Result<std::unique_ptr<Slots>> Slots::create(Pool& pool, const std::vector<std::unique_ptr<Store>>& stores,
                                             PageRecords records) {
    if (stores.empty()) return fail(EINVAL, "a swap area needs at least one store");

    std::vector<StorePart> parts;
    std::uint64_t slots = 0;
    constexpr std::uint64_t kSlotsMax = kNoSlot - 64;
    std::uint64_t offered = 0;
    for (const std::unique_ptr<Store>& store : stores)
        offered += blocks_in(store->capacity()) * kSlotsPerBlock;
    const std::uint64_t share = offered > kSlotsMax ? kSlotsMax / stores.size() : kSlotsMax;
    for (const std::unique_ptr<Store>& store : stores) {
        if (kBlockBytes % store->alignment() != 0)
            return fail(EINVAL, "{}: cannot hold blocks of {} bytes, it is aligned to {}", store->name(),
                        kBlockBytes, store->alignment());
        const std::uint64_t blocks = std::min(blocks_in(store->capacity()), share);
        if (blocks == 0) return fail(EINVAL, "{}: no room for a single page", store->name());
        const std::uint64_t held = std::min(blocks * kSlotsPerBlock, share);
        Result<SlotAllocator> allocator = SlotAllocator::create(static_cast<std::uint32_t>(held));
        if (!allocator) return std::unexpected(std::move(allocator.error()));
        Result<BlockMap> map = BlockMap::create(*store, static_cast<std::uint32_t>(blocks));
        if (!map) return std::unexpected(std::move(map.error()));
        parts.push_back({.store = store.get(),
                         .base = static_cast<SlotId>(slots),
                         .slots = std::move(*allocator),
                         .blocks = std::move(*map),
                         .dirty = {},
                         .overdue = {},
                         .written = {}});
        slots += held;
    }
    Result<SlotMap> map = SlotMap::create(slots);
    if (!map) return std::unexpected(std::move(map.error()));
    Result<SwapCache> cache = SwapCache::create(pool);
    if (!cache) return std::unexpected(std::move(cache.error()));
    Result<FillPages> fills = FillPages::create();
    if (!fills) return std::unexpected(std::move(fills.error()));
    return std::unique_ptr<Slots>(new Slots(std::move(*map), std::move(*cache), std::move(parts),
                                            std::move(records), std::move(*fills)));
}

Slots::~Slots() {
    cache_.for_each([this](FrameIndex frame) { cache_.release(frame); });
}

StorePart& Slots::part_of(SlotId slot) noexcept {
    for (StorePart& part : parts_)
        if (part.holds(slot)) return part;
    FARSWAP_ASSERT(!"a slot of this area");
    __builtin_unreachable();
}

/// The list that a frame is on while its slot is in `state`; null when on none.
FrameList* Slots::queue_of(SlotId slot, SlotState state, FrameIndex frame) noexcept {
    switch (state) {
        case SlotState::kDirty:
            return cache_.overdue(frame) ? &part_of(slot).overdue : &part_of(slot).dirty;
        case SlotState::kWritten:
            return &part_of(slot).written;
        case SlotState::kClean:
            return cache_.spent(frame) ? &spent_ : &clean_;
        default:
            return nullptr;
    }
}

void Slots::apply(SlotId slot, SlotEvent event) noexcept {
    const SlotState from = map_.state(slot);
    const FrameIndex frame = map_.frame(slot);
    const SlotStep& step = slot_step(from, event);
    FARSWAP_ASSERT(step.legal);
    if (FrameList* queue = queue_of(slot, from, frame)) cache_.remove(*queue, frame);
    if (is_packed(from)) remove_packed(slot, step.next);
    map_.set_state(slot, step.next);
    if (step.releases_frame) {
        FARSWAP_ASSERT(cache_.placed(frame) || step.frees_slot);
        if (cache_.placed(frame))
            map_.set_first_unit(slot, cache_.first_unit(frame));
        else
            forget_unplaced(slot);
        give_up_frame(slot, frame);
    } else if (FrameList* queue = queue_of(slot, step.next, frame)) {
        cache_.push_back(*queue, frame);
    }
    if (step.frees_slot) free_slot(slot);
}

void Slots::add(SlotId slot, FrameIndex frame) noexcept {
    FARSWAP_ASSERT(map_.state(slot) == SlotState::kFree && map_.count(slot) == 0);
    FARSWAP_ASSERT(cache_.lent(frame));
    records_.note(map_, slot, cache_.address(frame));
    map_.increment(slot);
    map_.set_frame(slot, frame);
    cache_.attach(frame, slot);
    ++frames_cached_;
    map_.set_state(slot, slot_step(SlotState::kFree, SlotEvent::kAdded).next);
    cache_.push_back(part_of(slot).dirty, frame);
}

void Slots::add_filled(SlotId slot, std::uint64_t word) noexcept {
    FARSWAP_ASSERT(map_.state(slot) == SlotState::kFree && map_.count(slot) == 0);
    map_.set_tag(slot, word, 0);
    forget_unplaced(slot);
    map_.increment(slot);
    map_.set_state(slot, slot_step(SlotState::kFree, SlotEvent::kAddedFilled).next);
}

void Slots::give_up_frame(SlotId slot, FrameIndex frame) noexcept {
    FARSWAP_ASSERT(cache_.slot_of(frame) == slot);
    cache_.release(frame);
    --frames_cached_;
}

Status Slots::make_packed(std::uint64_t most, bool on_the_way) {
    const bool sealed = records_.sealed_inside();
    auto window = PageWindow::create(sealed);
    if (!window) return std::unexpected(std::move(window.error()));
    auto packed = PackedPages::create(most, {.notes = on_the_way, .seals = sealed});
    if (!packed) return std::unexpected(std::move(packed.error()));
    unpacked_.emplace(std::move(*window));
    packed_.emplace(std::move(*packed));
    on_the_way_ = on_the_way;
    return {};
}

/// What opens a packed record; null where those are not sealed.
MemorySeal* Slots::seal_of(std::uint32_t number, std::uint32_t units) noexcept {
    return records_.sealed_inside() ? &packed_->seal(number, units) : nullptr;
}

/// Its number; PackedPages::kNone: there is no room.
std::uint32_t Slots::keep_record(std::span<const std::byte> record, const PackedPages::Note& note) noexcept {
    const auto units = static_cast<std::uint32_t>(record.size() / kUnitBytes);
    const std::uint32_t number = packed_->add(units, note);
    if (number != PackedPages::kNone)
        records_.keep(record, packed_->record(number, units), seal_of(number, units));
    return number;
}

bool Slots::add_packed(SlotId slot, const std::byte* page, std::span<const std::byte> record) noexcept {
    FARSWAP_ASSERT(map_.state(slot) == SlotState::kFree && map_.count(slot) == 0);
    const auto units = static_cast<std::uint32_t>(record.size() / kUnitBytes);
    const std::uint32_t number = keep_record(record, {});
    if (number == PackedPages::kNone) return false;
    records_.note(map_, slot, page);
    forget_unplaced(slot);
    map_.increment(slot);
    map_.set_units(slot, units);
    map_.set_first_unit(slot, number);
    map_.set_state(slot, slot_step(SlotState::kFree, SlotEvent::kAddedPacked).next);
    return true;
}

const std::byte* Slots::packed_page(SlotId slot) noexcept {
    std::byte* const page = unpacked_->page(slot);
    expand(slot, page);
    return page;
}

/// Expands the page of a slot that is_packed(). Its checksum is the slot's tag only until it has a seal.
void Slots::expand(SlotId slot, std::byte* page) noexcept {
    const std::uint32_t number = map_.first_unit(slot);
    const std::uint32_t units = map_.units(slot);
    records_.unpack(packed_->record(number, units), units, seal_of(number, units), page);
    // It has been in this process's memory only.
    FARSWAP_ASSERT(on_the_way_ ? records_.checksum(page) == packed_->note(number, units).check
                               : records_.unchanged(map_, slot, page));
}

int Slots::pack_away(SlotId slot, std::uint32_t units_max) noexcept {
    const FrameIndex frame = map_.frame(slot);
    FARSWAP_ASSERT(map_.state(slot) == SlotState::kDirty && !cache_.placed(frame));
    FARSWAP_ASSERT(map_.seal(slot) == 0 && map_.units(slot) == 0);
    const auto record = pack_to_keep(cache_.address(frame));
    const auto units = static_cast<std::uint32_t>(record.size() / kUnitBytes);
    if (units > units_max) return EFBIG;
    const std::uint32_t number = keep_record(
        record, {.slot = slot, .first_unit = 0, .check = static_cast<std::uint32_t>(map_.tag(slot))});
    if (number == PackedPages::kNone) return ENOSPC;
    cache_.remove(*queue_of(slot, SlotState::kDirty, frame), frame);
    map_.set_state(slot, slot_step(SlotState::kDirty, SlotEvent::kPackedAway).next);
    map_.set_units(slot, units);
    map_.set_first_unit(slot, number);
    give_up_frame(slot, frame);
    return 0;
}

void Slots::unpack(SlotId slot, FrameIndex frame) noexcept {
    FARSWAP_ASSERT(map_.state(slot) == SlotState::kPacked && cache_.slot_of(frame) == kNoSlot);
    expand(slot, cache_.address(frame));
    remove_packed(slot, SlotState::kDirty);
    map_.set_state(slot, slot_step(SlotState::kPacked, SlotEvent::kUnpacked).next);
    map_.set_frame(slot, frame);
    cache_.attach(frame, slot);
    cache_.set_overdue(frame);
    ++frames_cached_;
    cache_.push_back(*queue_of(slot, SlotState::kDirty, frame), frame);
}

bool Slots::pack_too(SlotId slot, const std::byte* page, std::uint32_t units_max) noexcept {
    FARSWAP_ASSERT(map_.state(slot) == SlotState::kStored);
    // The record on the store is as long as one that is made of the page now, if both are compressed.
    if (map_.units(slot) > units_max) return false;
    const auto record = records_.pack_again(slot, page);
    if (record.size() != std::size_t{map_.units(slot)} * kUnitBytes) return false;
    const std::uint32_t number = keep_record(
        record, {.slot = slot, .first_unit = map_.first_unit(slot), .check = records_.checksum(page)});
    if (number == PackedPages::kNone) return false;
    map_.set_first_unit(slot, number);
    map_.set_state(slot, slot_step(SlotState::kStored, SlotEvent::kPackedToo).next);
    return true;
}

/// The slot's record in memory goes. What has a place on a store goes back to that.
void Slots::remove_packed(SlotId slot, SlotState next) noexcept {
    const std::uint32_t number = map_.first_unit(slot);
    const std::uint32_t units = map_.units(slot);
    if (map_.state(slot) == SlotState::kPackedStored) {
        const std::uint32_t first_unit = packed_->note(number, units).first_unit;
        packed_->remove(number, units);
        map_.set_first_unit(slot, first_unit);
        return;
    }
    packed_->remove(number, units);
    map_.set_units(slot, 0);
    if (on_the_way_ && next == SlotState::kFree) forget_unplaced(slot);
}

void Slots::give_back(SlotId slot) noexcept {
    forget_unplaced(slot);
    StorePart& part = part_of(slot);
    part.slots.release(slot - part.base);
}

bool Slots::holds(SlotId slot, const std::byte* page) noexcept {
    const SlotState state = map_.state(slot);
    if (state == SlotState::kFilled) return fill_word(page) == map_.tag(slot);
    if (is_cached(state)) return std::memcmp(page, cache_.address(map_.frame(slot)), kPageSize) == 0;
    if (is_packed(state)) return std::memcmp(page, packed_page(slot), kPageSize) == 0;
    return records_.is_of(map_, slot, store_of(slot), page);
}

void Slots::start_read(SlotId slot, FrameIndex frame) noexcept {
    const std::uint32_t first_unit = map_.first_unit(slot);
    cache_.attach(frame, slot);
    cache_.set_place(frame, first_unit);
    map_.set_frame(slot, frame);
    ++frames_cached_;
    apply(slot, SlotEvent::kReadStarted);
}

bool Slots::put(SlotId slot) noexcept {
    if (map_.decrement(slot) > 0) return false;
    apply(slot, SlotEvent::kLastPut);
    return true;
}

/// The slot's page goes before it was written.
void Slots::forget_unplaced(SlotId slot) noexcept {
    StorePart& part = part_of(slot);
    FARSWAP_ASSERT(part.unplaced > 0);
    --part.unplaced;
    map_.set_units(slot, 0);
}

/// The slot has neither user nor frame any more.
void Slots::free_slot(SlotId slot) noexcept {
    FARSWAP_ASSERT(map_.count(slot) == 0);
    StorePart& part = part_of(slot);
    if (const std::uint32_t units = map_.units(slot); units > 0)
        part.blocks.remove({map_.first_unit(slot), units});
    part.slots.release(slot - part.base);
}

SlotRun Slots::allocate(StorePart& part, std::uint32_t count_max) noexcept {
    const std::uint32_t count = std::min(count_max, part.blocks_left());
    if (count == 0) return {};
    // Not all at once: the search goes round through what is in use, and takes memory for each entry that it
    // passes.
    if (part.slots.free() < std::max(count, part.slots.limit() / 8)) {
        const std::uint64_t more = std::max({count, part.slots.limit() / 8, kSlotsAtOnce});
        part.slots.extend(static_cast<std::uint32_t>(
            std::min<std::uint64_t>(part.slots.limit() + more, part.slots.capacity())));
    }
    const SlotAllocator::Run run = part.slots.allocate(count);
    part.unplaced += run.count;
    return run.count == 0 ? SlotRun{} : SlotRun{part.base + run.first, run.count};
}

void Slots::put_at(SlotId slot, std::uint32_t first_unit) noexcept {
    StorePart& part = part_of(slot);
    const FrameIndex frame = map_.frame(slot);
    FARSWAP_ASSERT(map_.units(slot) > 0 && !cache_.placed(frame) && part.unplaced > 0);
    --part.unplaced;
    cache_.set_place(frame, first_unit);
    part.blocks.add({first_unit, map_.units(slot)});
}

Place Slots::place_of(SlotId slot) const noexcept {
    const SlotState state = map_.state(slot);
    if (state == SlotState::kStored) return {map_.first_unit(slot), map_.units(slot)};
    if (state == SlotState::kPackedStored) {
        const std::uint32_t units = map_.units(slot);
        return {packed_->note(map_.first_unit(slot), units).first_unit, units};
    }
    if (!has_frame(state)) return {};
    const FrameIndex frame = map_.frame(slot);
    return cache_.placed(frame) ? Place{cache_.first_unit(frame), map_.units(slot)} : Place{};
}

void Slots::note_use(SlotId slot) noexcept {
    const SlotState state = map_.state(slot);
    const FrameIndex frame = map_.frame(slot);
    FrameList* from = queue_of(slot, state, frame);
    if (map_.count(slot) == 1) cache_.set_spent(frame);
    if (state != SlotState::kClean) return;
    cache_.remove(*from, frame);
    cache_.push_back(*queue_of(slot, state, frame), frame);
}

}  // namespace farswap
