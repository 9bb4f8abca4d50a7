// How pages leave a range: moved to staging, copied into frames of the swap area, one run at a time.
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/assert.h"
#include "memory/far_pager.h"
#include "target/moved_bytes.h"
#include "target/pagemap.h"
#include "target/uapi.h"

namespace farswap {
namespace {

// The thread, the ring, buffers for sealing and writing: measured by FarMemoryTest.TheCapHolds.
constexpr std::uint64_t kFixedBytes = 4 << 20;
// For a page outside: its slot's maps in the swap area, and our own flags and slot number.
constexpr std::uint64_t kBytesAPage = 32;
constexpr std::uint64_t kLeastRoom = 512;  // pages
constexpr int kMoveTries = 8;
constexpr int kEvictTries = 1024;  // runs that may turn out not to be movable

/// What lies there goes, also where the program has locked it: by mlockall(2), or before it gave it back.
void drop(std::byte* at, std::uint64_t bytes) {
    if (::madvise(at, bytes, MADV_DONTNEED) == 0) return;
    ::munlock(at, bytes);
    FARSWAP_ASSERT(::madvise(at, bytes, MADV_DONTNEED) == 0);
}

}  // namespace

Status FarPager::check_room() const {
    const std::uint64_t pool = std::uint64_t{pool_->frames()} * kPageSize;
    const std::uint64_t least = pool + kFixedBytes + FarRange::kStagingPages * kPageSize +
                                kLeastRoom * kPageSize + range_.pages * kBytesAPage;
    if (ram_ < least)
        return fail(EINVAL, "{} MiB of RAM are the least for {} MiB of memory and a pool of {} MiB",
                    (least >> 20) + 1, (range_.pages * kPageSize) >> 20, pool >> 20);
    const std::uint64_t far_max = range_.pages - std::min(range_.pages, kLeastRoom);
    if (area_->slots_capacity() < far_max)
        return fail(ENOSPC, "the store has room for {} MiB only, and {} MiB may have to go there",
                    area_->slots_capacity() * kPageSize >> 20, far_max * kPageSize >> 20);
    return {};
}

/// How many pages may be inside.
std::uint64_t FarPager::room_pages() const noexcept {
    const std::uint64_t taken = std::uint64_t{pool_->frames()} * kPageSize + kFixedBytes +
                                FarRange::kStagingPages * kPageSize + slots_peak_ * kBytesAPage;
    return (ram_ - taken) / kPageSize;
}

bool FarPager::make_room(std::uint64_t pages) {
    while (resident_ + pages > room_pages()) {
        if (!evict()) return false;
    }
    return true;
}

/// Has one run of pages leave. False when that is not possible now.
bool FarPager::evict() {
    for (int tries = 0; tries < kEvictTries; tries++) {
        const FrameRun frames = area_->take_frames(static_cast<std::uint32_t>(FarRange::kStagingPages));
        if (frames.count == 0) {
            if (area_->slots_exhausted() && !give_up_slots(range_.pages))
                end_process("the store is full: give it more room, or allocate less");
            area_->kick_writes();
            return false;
        }
        std::uint64_t first = 0;
        const std::uint64_t resident_before = resident_;
        const std::uint64_t count = choose(frames.count, first);
        const auto moved = static_cast<std::uint32_t>(count > 0 ? move_out(first, count) : 0);
        if (moved < frames.count) area_->return_frames({frames.first + moved, frames.count - moved});
        if (count == 0) return false;
        if (moved == 0 && resident_ == resident_before) continue;
        if (moved == 0) return true;  // the program had given them up itself
        hand_over(first, {frames.first, moved});
        slots_peak_ = std::max(slots_peak_, area_->slots_used());
        return true;
    }
    return false;
}

/// The next pages behind the hand that may leave; how many, 0 when a whole round finds none.
std::uint64_t FarPager::choose(std::uint32_t count_max, std::uint64_t& first) {
    for (std::uint64_t looked_at = 0; looked_at < 2 * range_.pages; looked_at++) {
        if (hand_ == range_.pages) hand_ = 0;
        const std::uint64_t page = hand_++;
        if (has(page, kHot))
            flags_[page] &= static_cast<std::uint8_t>(~kHot);
        else if (flags_[page] == kInside) {
            first = page;
            while (hand_ < range_.pages && hand_ - page < count_max && flags_[hand_] == kInside) hand_++;
            return hand_ - page;
        }
    }
    return 0;
}

/// Moves pages to staging; how many, from the first on. The hand stands behind what was refused.
std::uint64_t FarPager::move_out(std::uint64_t first, std::uint64_t count) {
    if (std::exchange(staging_filled_, false)) drop(range_.staging(), FarRange::kStagingPages * kPageSize);
    const std::uint64_t wanted = count;
    std::uint64_t moved = 0;
    for (int tries = 0; moved < count && tries < kMoveTries; tries++) {
        uffdio_move request{};
        request.dst = reinterpret_cast<std::uintptr_t>(range_.staging()) + moved * kPageSize;
        request.src = address(first + moved);
        request.len = (count - moved) * kPageSize;
        const bool all = ::ioctl(uffd_.fd(), UFFDIO_MOVE, &request) == 0;
        const int error = all ? 0 : errno;
        if (request.move > 0) moved += static_cast<std::uint64_t>(request.move) / kPageSize;
        if (all) break;
        // Not all in one mapping: mlock(2) of a part divides them. One page always is.
        if (request.move <= 0 && (error == EINVAL || error == ENOENT) && count - moved > 1) {
            count = moved + 1;
        } else if (request.move <= 0 && error != EAGAIN) {
            break;
        }
    }
    std::uint64_t gone = 0;
    if (moved < wanted) {
        moved = really_moved(first, moved, wanted);
        gone = forget_absent(first + moved, wanted - moved);
    }
    // One that does not go (pinned, locked) is passed over for this round.
    hand_ = first + moved + gone + (moved < count && gone == 0 ? 1 : 0);
    return moved;
}

/// As a MOVE that ends early may have taken a page more than it says (docs/kernel-facts.md): dropped in
/// staging, it would be zeros to the program.
std::uint64_t FarPager::really_moved(std::uint64_t first, std::uint64_t told, std::uint64_t wanted) const {
    const agent_range run{address(first), reinterpret_cast<std::uintptr_t>(range_.staging()),
                          wanted * kPageSize};
    const agent_result result{told * kPageSize, -EAGAIN, 0};
    return moved_bytes(run, result, [this](std::uint64_t at) { return !is_absent(at); }) / kPageSize;
}

/// Pages that the program has given up by madvise(2) are as new from now on; no event has told of them. How
/// many of these, from the first on, are such.
std::uint64_t FarPager::forget_absent(std::uint64_t first, std::uint64_t count) {
    std::uint64_t gone = 0;
    for (; gone < count && is_absent(address(first + gone)); gone++) {
        const std::uint64_t page = first + gone;
        if (slot(page) != kNoSlot) area_->put(slot(page));
        set_slot(page, kNoSlot);
        flags_[page] = 0;
        resident_--;
    }
    return gone;
}

bool FarPager::is_absent(std::uint64_t at) const {
    return target::count_absent(pagemap_.get(), at, 1) == 1;
}

/// What lies in staging goes to the swap area.
void FarPager::hand_over(std::uint64_t first, FrameRun frames) {
    std::memcpy(pool_->address(frames.first), range_.staging(), frames.count * kPageSize);
    drop(range_.staging(), frames.count * kPageSize);
    for (std::uint32_t done = 0; done < frames.count;) {
        const std::uint64_t page = first + done;
        const FrameIndex frame = frames.first + done;
        const SlotId kept = slot(page);
        if (kept != kNoSlot && area_->holds(kept, frame)) {
            area_->add_unchanged(kept, frame);
            done++;
            resident_--;
            far_++;
            flags_[page] = 0;
            continue;
        }
        std::uint32_t changed = 0;
        while (done + changed < frames.count) {
            const SlotId old = slot(page + changed);
            if (old != kNoSlot && changed > 0 && area_->holds(old, frame + changed)) break;
            if (old != kNoSlot) area_->put(old);
            set_slot(page + changed, kNoSlot);
            changed++;
        }
        add_changed(page, {frame, changed});
        done += changed;
    }
}

/// Gives pages that no slot holds to the swap area; those that it does not take go back where they were.
void FarPager::add_changed(std::uint64_t first, FrameRun frames) {
    for (std::uint32_t done = 0; done < frames.count;) {
        const FrameRun rest{frames.first + done, frames.count - done};
        const auto added = area_->add(rest);
        const std::uint32_t count = added ? added->count : 0;
        for (std::uint32_t i = 0; i < count; i++) {
            set_slot(first + done + i, added->first + i);
            flags_[first + done + i] = 0;
        }
        resident_ -= count;
        far_ += count;
        done += count;
        if (count > 0) continue;
        copy_in(first + done, pool_->address(rest.first), rest.count);
        area_->return_frames(rest);
        return;
    }
}

/// Pages that are back forget the slots that they have kept, when others need them more. Whether any did.
bool FarPager::give_up_slots(std::uint64_t looks_max) {
    const std::uint32_t all_wanted = area_->slots_short();
    std::uint32_t wanted = all_wanted;
    for (std::uint64_t looks = 0; wanted > 0 && looks < std::min(looks_max, range_.pages); looks++) {
        if (slots_hand_ >= range_.pages) slots_hand_ = 0;
        const std::uint64_t page = slots_hand_++;
        if (slot(page) == kNoSlot || !has(page, kInside)) continue;
        area_->put(slot(page));
        set_slot(page, kNoSlot);
        wanted--;
    }
    return wanted < all_wanted;
}

void FarPager::discard(std::uint64_t first, std::uint64_t count) {
    Discard mine{first, count};
    std::unique_lock lock(mutex_);
    mine.next = std::exchange(discards_, &mine);
    loop_->wake();
    discarded_.wait(lock, [&mine] { return mine.done; });
}

void FarPager::do_discards() {
    const std::lock_guard lock(mutex_);
    for (Discard* next = nullptr; discards_ != nullptr; discards_ = next) {
        next = discards_->next;
        discard_now(*discards_);
        discards_->done = true;
    }
    note_counters();
    discarded_.notify_all();
}

void FarPager::discard_now(const Discard& discard) {
    const std::uint64_t end = discard.first + discard.count;
    for (std::uint64_t page = discard.first; page < end; page++) {
        // Its notes may have no memory yet, and need none.
        if (flags_[page] == 0 && slot(page) == kNoSlot) continue;
        if (has(page, kInside)) {
            resident_--;
        } else if (slot(page) != kNoSlot && !has(page, kGivenUp)) {
            far_--;
        }
        // Nobody may touch what he gives up. But a fault may be served that nobody waits for any more: of two
        // threads that were woken together the second one's is read late; a signal's handler may not return.
        if (has(page, kFetching)) {
            flags_[page] |= kGivenUp;
            continue;
        }
        if (slot(page) != kNoSlot) area_->put(slot(page));
        set_slot(page, kNoSlot);
        flags_[page] &= kWaiting;
    }
    drop(range_.base + discard.first * kPageSize, discard.count * kPageSize);
}

}  // namespace farswap
