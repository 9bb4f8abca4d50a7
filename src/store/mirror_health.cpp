// How a mirror loses one of its halves, looks after it, and takes it back; see mirror_store.h.
#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/assert.h"
#include "base/log.h"
#include "store/mirror_store.h"

namespace farswap {
namespace {

constexpr std::uint64_t kDoubtPiece = 16;              // pages
constexpr std::uint64_t kDoubtPiecesMax = 1ull << 16;  // a store's list of doubts is searched for each

}  // namespace

void MirrorStore::note_success(MirrorHalf& half) noexcept {
    half.alive_at = io::Clock::now();
}

/// Takes the half out. What is being written is missing there from now on, and what it had acknowledged but
/// not flushed has to come again: the next flush says so.
void MirrorStore::lose(MirrorHalf& half, int error) noexcept {
    FARSWAP_ASSERT(can_lose(half));
    half.state = MirrorHalf::State::kOut;
    half.read_failures = half.flush_failures = 0;
    resend_ = true;
    log::warning("mirror: lost {} ({}), running on {} alone", half.store->name(), strerrordesc_np(-error),
                 other(half).store->name());
    if (resync_.running()) resync_.stop();
    for (Operation& operation : operations_) {
        if (operation.request == nullptr) continue;
        Leg& leg = operation.legs[index_of(half)];
        if (operation.writes() && !leg.skipped) {
            leg.skipped = true;
            const Request& request = *operation.request;
            half.missing.set({request.offset / kPageSize, request.length / kPageSize});
        }
        if (leg.flying)
            half.store->cancel(leg.request);
        else if (!leg.done)
            loop_.arm(leg.retry, io::Clock::now());  // to be settled from the loop
    }
    half.flush.awaited = half.reserve.awaited = false;
    half.probe_delay = options_.probe_delay;
    loop_.arm(half.probe_timer, io::Clock::now() + half.probe_delay);
    kick();
}

/// Nothing of ours is under way on the half.
bool MirrorStore::at_rest(const MirrorHalf& half) const noexcept {
    return half.in_flight == 0 && !half.flush.busy && !half.reserve.busy && resync_.quiet();
}

void MirrorStore::leave_out(MirrorHalf& half) noexcept {
    half.state = MirrorHalf::State::kOut;
    half.probe_delay = std::min(half.probe_delay * 2, options_.probe_delay_max);
    if (closed_) return;
    loop_.arm(half.probe_timer, io::Clock::now() + half.probe_delay);
    kick();  // a reservation may have waited for the outcome
}

// ---- the look at a half that is out: its first page is read and written back, then flushed

void MirrorStore::on_probe_timer(MirrorHalf& half) noexcept {
    if (closed_) return;
    if (!at_rest(half) || half.store->in_doubt(0, kPageSize)) {
        loop_.arm(half.probe_timer, io::Clock::now() + half.probe_delay);
        return;
    }
    half.state = MirrorHalf::State::kReturning;
    if (half.store->reserved() < kPageSize) return continue_return(half);
    half.probe.op = READ;
    half.probe.offset = 0;
    half.probe.data = half.probe_page.data();
    half.probe.length = kPageSize;
    half.probe.timeout = options_.outage_max;
    ++half.in_flight;
    half.store->submit(half.probe);
}

void MirrorStore::probe_step_ended(MirrorHalf& half, int result) noexcept {
    --half.in_flight;
    if (result < 0 || closed_) return leave_out(half);
    if (half.probe.op == WRITE) return submit_flush(half, options_.outage_max);
    half.probe.op = WRITE;
    ++half.in_flight;
    half.store->submit(half.probe);
}

/// It works. Before it takes part it has to have the room for all that was written meanwhile.
void MirrorStore::continue_return(MirrorHalf& half) noexcept {
    if (closed_) return leave_out(half);
    if (half.store->reserved() < reserved_) return submit_reserve(half, reserved_);
    // A reservation of the other's that is under way would leave this one behind: it is waited for.
    if (reserve_active_) return leave_out(half);
    take_back(half);
}

/// Marks as missing what is in doubt, in pieces of `grain` pages. The half has written its first page and
/// reserved space while it was out, where pages are free or have come into use without anyone asking; and
/// what it was given before it was lost may come late, too.
void MirrorStore::mark_doubts(MirrorHalf& half, PageMarks::Run pages, std::uint64_t grain) noexcept {
    if (pages.count == 0 || !half.store->in_doubt(pages.first * kPageSize, pages.count * kPageSize)) return;
    if (pages.count <= grain) return half.missing.set(pages);
    const std::uint64_t front = pages.count / 2;
    mark_doubts(half, {pages.first, front}, grain);
    mark_doubts(half, {pages.first + front, pages.count - front}, grain);
}

void MirrorStore::take_back(MirrorHalf& half) noexcept {
    const std::uint64_t pages = reserved_ / kPageSize;
    mark_doubts(half, {0, pages}, std::max(pages / kDoubtPiecesMax, kDoubtPiece));
    half.state = MirrorHalf::State::kUp;
    half.probe_delay = options_.probe_delay;
    half.shy_until = {};
    note_success(half);
    kick();
    if (half.missing.empty()) return say_complete(half);
    log::warning("mirror: {} is back, {} MiB are being copied to it", half.store->name(),
                 (half.missing.marked() * kPageSize + (1u << 20) - 1) >> 20);
    resync_.start(half);
}

void MirrorStore::say_complete(const MirrorHalf& half) noexcept {
    FARSWAP_ASSERT(complete());
    log::warning("mirror: {} is complete again", half.store->name());
}

}  // namespace farswap
