// The choice of frames: free runs first, then regions around the pages that are due.
#include "swap/frame_supply.h"

#include <algorithm>

#include "base/assert.h"

namespace farswap {
namespace {

/// Regions looked at before the longest of them is taken.
constexpr int kRegionsTried = 4;

}  // namespace

std::uint32_t FrameSupply::for_reading() const noexcept {
    return slots_.cache().pool().free_frames() + slots_.frames_clean();
}

std::uint32_t FrameSupply::for_writing() const noexcept {
    const std::uint32_t all = for_reading();
    return all > read_frames_min_ ? all - read_frames_min_ : 0;
}

FrameRun FrameSupply::take_for_reading(std::uint32_t count_max) noexcept {
    return take(count_max);
}

FrameRun FrameSupply::take_for_writing(std::uint32_t count_max) noexcept {
    const FrameRun run = take(std::min(count_max, for_writing()));
    for (std::uint32_t i = 0; i < run.count; ++i) slots_.cache().set_lent(run.first + i, true);
    return run;
}

void FrameSupply::give_back(FrameRun run) noexcept {
    for (std::uint32_t i = 0; i < run.count; ++i) {
        FARSWAP_ASSERT(slots_.cache().lent(run.first + i));
        slots_.cache().set_lent(run.first + i, false);
        slots_.cache().pool().release(run.first + i);
    }
}

FrameRun FrameSupply::take(std::uint32_t count_max) noexcept {
    if (count_max == 0) return {};
    Pool& pool = slots_.cache().pool();
    const FrameRun run = pool.allocate_run(count_max);
    if (run.count == count_max) return run;
    const FrameRun region = region_to_clear(count_max);
    if (region.count <= run.count) return run;

    for (std::uint32_t i = 0; i < run.count; ++i) pool.release(run.first + i);
    for (FrameIndex frame = region.first; frame < region.first + region.count; ++frame) {
        const SlotId slot = slots_.cache().slot_of(frame);
        if (slot != kNoSlot) slots_.apply(slot, SlotEvent::kDropped);
    }
    return pool.allocate_run(count_max);
}

/// Neighbouring frames, at most `count_max`, that are free or may be dropped; none without a clean page.
/// Pages that their user has copied go first if that gives as good a run.
FrameRun FrameSupply::region_to_clear(std::uint32_t count_max) const noexcept {
    const FrameRun spent = best_region(slots_.spent(), true, count_max);
    if (spent.count == count_max) return spent;
    const FrameRun clean = best_region(slots_.clean(), false, count_max);
    return clean.count > spent.count ? clean : spent;
}

/// The longest of the regions around the first few pages of the list that lie apart from each other.
FrameRun FrameSupply::best_region(const FrameList& due, bool spent_only,
                                  std::uint32_t count_max) const noexcept {
    FrameRun best, last;
    FrameIndex frame = due.head;
    for (int tries = 0; tries < kRegionsTried && frame != kNoFrame && best.count < count_max; ++tries) {
        last = region_around(frame, spent_only, count_max);
        if (last.count > best.count) best = last;
        while (frame != kNoFrame && frame - last.first < last.count) frame = slots_.cache().next(frame);
    }
    return best;
}

FrameRun FrameSupply::region_around(FrameIndex frame, bool spent_only,
                                    std::uint32_t count_max) const noexcept {
    FrameIndex first = frame;
    FrameIndex end = frame + 1;
    const std::uint32_t frames = slots_.cache().pool().ready_frames();
    // A page that came in with this one and was used before it lies in front of it and would stay behind
    // alone.
    while (first > 0 && end - first < count_max && usable(first - 1, true)) --first;
    while (end < frames && end - first < count_max && usable(end, spent_only)) ++end;
    while (!spent_only && first > 0 && end - first < count_max && usable(first - 1, false)) --first;
    return {first, end - first};
}

/// A page that its user has not seen yet is not dropped for lying next to one that is spent.
bool FrameSupply::usable(FrameIndex frame, bool spent_only) const noexcept {
    const SlotId slot = slots_.cache().slot_of(frame);
    if (slot == kNoSlot) return !slots_.cache().lent(frame);
    return slots_.map().state(slot) == SlotState::kClean && (!spent_only || slots_.cache().spent(frame));
}

}  // namespace farswap
