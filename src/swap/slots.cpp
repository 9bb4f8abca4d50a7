// Applies the rules of a slot's life to the tables. Does no I/O.
#include "swap/slots.h"

#include <algorithm>
#include <cstring>

#include "base/assert.h"

namespace farswap {
namespace {

/// Whether an earlier write may still land on one of the slots, counted from the store's first.
bool in_doubt(const StorePart& part, std::uint32_t first, std::uint32_t count) noexcept {
    return part.store->in_doubt(RecordLayout::offset(first),
                                std::uint64_t{count} * RecordLayout::kRecordBytes);
}

}  // namespace

Result<std::unique_ptr<Slots>> Slots::create(Pool& pool, const std::vector<std::unique_ptr<Store>>& stores,
                                             PageRecords records) {
    if (stores.empty()) return fail(EINVAL, "a swap area needs at least one store");

    std::vector<StorePart> parts;
    std::uint64_t slots = 0;
    constexpr std::uint64_t kSlotsMax = kNoSlot - 64;  // 16 TiB of pages
    std::uint64_t offered = 0;
    for (const std::unique_ptr<Store>& store : stores)
        offered += std::min(RecordLayout::records_in(store->capacity()), kSlotsMax);
    const std::uint64_t share = offered > kSlotsMax ? kSlotsMax / stores.size() : kSlotsMax;
    for (const std::unique_ptr<Store>& store : stores) {
        if (RecordLayout::kRecordBytes % store->alignment() != 0)
            return fail(EINVAL, "{}: cannot hold records of {} bytes, it is aligned to {}", store->name(),
                        RecordLayout::kRecordBytes, store->alignment());
        const std::uint64_t held = std::min(RecordLayout::records_in(store->capacity()), share);
        if (held == 0) return fail(EINVAL, "{}: no room for a single page", store->name());
        Result<SlotAllocator> allocator = SlotAllocator::create(static_cast<std::uint32_t>(held));
        if (!allocator) return std::unexpected(std::move(allocator.error()));
        parts.push_back({.store = store.get(),
                         .base = static_cast<SlotId>(slots),
                         .slots = std::move(*allocator),
                         .dirty = {},
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
            return &part_of(slot).dirty;
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
    map_.set_state(slot, step.next);
    if (step.releases_frame) {
        cache_.release(frame);
        --frames_cached_;
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
    map_.increment(slot);
    map_.set_state(slot, slot_step(SlotState::kFree, SlotEvent::kAddedFilled).next);
}

bool Slots::holds(SlotId slot, const std::byte* page) noexcept {
    const SlotState state = map_.state(slot);
    if (state == SlotState::kFilled) return fill_word(page) == map_.tag(slot);
    if (is_cached(state)) return std::memcmp(page, cache_.address(map_.frame(slot)), kPageSize) == 0;
    return records_.is_of(map_, slot, store_of(slot), page);
}

void Slots::start_read(SlotId slot, FrameIndex frame) noexcept {
    map_.set_frame(slot, frame);
    cache_.attach(frame, slot);
    ++frames_cached_;
    apply(slot, SlotEvent::kReadStarted);
}

bool Slots::put(SlotId slot) noexcept {
    if (map_.decrement(slot) > 0) return false;
    apply(slot, SlotEvent::kLastPut);
    return true;
}

void Slots::free_slot(SlotId slot) noexcept {
    FARSWAP_ASSERT(map_.count(slot) == 0);
    StorePart& part = part_of(slot);
    if (in_doubt(part, slot - part.base, 1)) return park(part, slot);
    part.slots.release(slot - part.base);
}

void Slots::park(StorePart& part, SlotId slot) noexcept {
    map_.set_next_parked(slot, kNoSlot);
    if (part.parked.size++ == 0)
        part.parked.head = slot;
    else
        map_.set_next_parked(part.parked.tail, slot);
    part.parked.tail = slot;
}

/// Space is reserved by writes too, and those may be in doubt.
void Slots::extend(StorePart& part, std::uint32_t limit) noexcept {
    const std::uint32_t old = part.slots.limit();
    part.slots.extend(limit);
    if (!in_doubt(part, old, limit - old)) return;
    for (std::uint32_t index = old; index < limit; ++index) {
        if (!in_doubt(part, index, 1)) continue;
        part.slots.take({index, 1});
        park(part, part.base + index);
    }
}

void Slots::unpark(StorePart& part, std::uint32_t looks_max) noexcept {
    for (std::uint32_t looks = std::min(looks_max, part.parked.size); looks > 0; --looks) {
        const SlotId slot = part.parked.head;
        part.parked.head = map_.next_parked(slot);
        --part.parked.size;
        // Doubts do not end in the order in which they arose: one that stays must not hide the others.
        if (in_doubt(part, slot - part.base, 1))
            park(part, slot);
        else
            part.slots.release(slot - part.base);
    }
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
