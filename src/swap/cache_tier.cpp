// See cache_tier.h.
#include "swap/cache_tier.h"

#include <algorithm>

#include "base/assert.h"

namespace farswap {
namespace {

// A record that saves less is not worth the time in which it is packed and expanded.
constexpr std::uint32_t kKeptUnitsMax = kUnitsPerBlock * 5 / 8;
constexpr std::uint32_t kReleasedAtOnce = 64;  // records: what makes a write of the usual length

}  // namespace

SwapEvents::Offer CacheTier::offer(SlotId slot) noexcept {
    // Its record has been made, and under its seal number no other may be.
    if (slots_.map().units(slot) != 0) return SwapEvents::Offer::kRefused;
    if (!share_.admits()) return SwapEvents::Offer::kNotNow;
    make_room(kPageSize);
    const int error = slots_.pack_away(slot, kKeptUnitsMax);
    if (error == EFBIG) return SwapEvents::Offer::kRefused;
    if (error != 0) return SwapEvents::Offer::kNotNow;
    share_.added(slots_.map().units(slot) * kUnitBytes);
    return SwapEvents::Offer::kTaken;
}

void CacheTier::offer_unchanged(SlotId slot, const std::byte* page) noexcept {
    const SlotState state = slots_.map().state(slot);
    if (state == SlotState::kPackedStored) slots_.renew(slot);
    if (state != SlotState::kStored || slots_.map().units(slot) > kKeptUnitsMax || !share_.admits()) return;
    make_room(kPageSize);
    if (slots_.pack_too(slot, page, kKeptUnitsMax)) share_.added(slots_.map().units(slot) * kUnitBytes);
}

void CacheTier::note_found(SlotId slot) noexcept {
    ++pages_found_;
    share_.found(slots_.packed_age(slot), slots_.packed()->age_of_oldest());
}

void CacheTier::note_back(SlotId slot) noexcept {
    if (slots_.map().state(slot) != SlotState::kPackedStored) return;
    if (slots_.map().count(slot) == 1)
        slots_.apply(slot, SlotEvent::kDropped);
    else
        slots_.renew(slot);
}

/// Has room for one more, as far as that can be had now.
void CacheTier::make_room(std::uint64_t bytes) noexcept {
    PackedPages& packed = *slots_.packed();
    packed.set_limit(share_.limit());
    if (packed.bytes() + bytes > packed.limit()) release(kReleasedAtOnce);
}

bool CacheTier::release(std::uint32_t count) noexcept {
    bool any = false;
    for (; count > 0 && release_oldest(); --count) any = true;
    return any;
}

bool CacheTier::release_oldest() noexcept {
    const SlotId slot = slots_.packed()->oldest();
    if (slot == PackedPages::kNone) return false;
    if (slots_.map().state(slot) == SlotState::kPacked) return write_back(slot);
    slots_.apply(slot, SlotEvent::kDropped);
    return true;
}

/// The page gets a frame again, in which it is written. False: there is none to spare, or its store takes
/// nothing any more; that one is passed by next time.
bool CacheTier::write_back(SlotId slot) noexcept {
    const auto store = static_cast<std::size_t>(&slots_.part_of(slot) - slots_.parts().data());
    if (writes_[store]->failed()) {
        slots_.renew(slot);
        return false;
    }
    // Others need frames, too, and a store that does not answer keeps those that it has got.
    if (frames_.for_writing() <= slots_.cache().pool().frames() / 4) return false;
    const FrameRun frame = frames_.take_for_reading(1);
    if (frame.count == 0) return false;
    slots_.unpack(slot, frame.first);
    ++pages_written_back_;
    return true;
}

}  // namespace farswap
