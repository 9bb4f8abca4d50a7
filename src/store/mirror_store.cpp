// A mirror's flushes and reservations, its making and its end; see mirror_store.h.
#include "store/mirror_store.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/assert.h"
#include "base/log.h"
#include "base/transient.h"

namespace farswap {
namespace {

constexpr std::chrono::seconds kCloseMax{3};
constexpr std::uint32_t kFlushFailuresMax = 3;

bool is_full(int error) {
    return error == -ENOSPC || error == -EDQUOT || error == -EFBIG;
}

}  // namespace

Result<std::unique_ptr<MirrorStore>> MirrorStore::create(std::unique_ptr<Store> first,
                                                         std::unique_ptr<Store> second, io::Loop& loop,
                                                         const MirrorOptions& options) {
    FARSWAP_ASSERT(options.operations_max > 0 && options.resync.copies_max > 0);
    for (const Store* half : {first.get(), second.get()}) {
        if (kPageSize % half->alignment() != 0)
            return fail(EINVAL, "{}: cannot be mirrored, it is aligned to {}", half->name(),
                        half->alignment());
    }
    const std::uint64_t pages = std::min(first->capacity(), second->capacity()) / kPageSize;
    auto missing_first = PageMarks::create(pages);
    if (!missing_first) return std::unexpected(std::move(missing_first.error()));
    auto missing_second = PageMarks::create(pages);
    if (!missing_second) return std::unexpected(std::move(missing_second.error()));
    auto memory = ZeroTable<std::byte>::create(MirrorResync::memory_needed(options.resync));
    if (!memory) return std::unexpected(std::move(memory.error()));
    return std::unique_ptr<MirrorStore>(new MirrorStore(
        {std::move(first), std::move(second)}, {std::move(*missing_first), std::move(*missing_second)},
        std::move(*memory), loop, options));
}

MirrorStore::MirrorStore(std::array<std::unique_ptr<Store>, 2> stores, std::array<PageMarks, 2> missing,
                         ZeroTable<std::byte> copy_memory, io::Loop& loop, const MirrorOptions& options)
    : loop_(loop),
      options_(options),
      name_(fmt::format("mirror({}, {})", stores[0]->name(), stores[1]->name())),
      capacity_(std::min(stores[0]->capacity(), stores[1]->capacity()) / kPageSize * kPageSize),
      reserved_(std::min({stores[0]->reserved(), stores[1]->reserved(), capacity_})),
      halves_{MirrorHalf(*this, std::move(stores[0]), std::move(missing[0])),
              MirrorHalf(*this, std::move(stores[1]), std::move(missing[1]))},
      resync_(*this, loop, options.resync, std::move(copy_memory)),
      operations_(options.operations_max) {
    for (Operation& operation : operations_) {
        operation.mirror = this;
        operation.next_idle = std::exchange(idle_, &operation);
        for (std::size_t i = 0; i < halves_.size(); ++i) {
            Leg& leg = operation.legs[i];
            leg.operation = &operation;
            leg.half = &halves_[i];
            leg.retry.owner = &leg;
            leg.retry.fire = [](io::Timer& timer) {
                Leg& its = *static_cast<Leg*>(timer.owner);
                its.operation->mirror->retry_leg(its);
            };
        }
    }
    kick_timer_.owner = this;
    kick_timer_.fire = [](io::Timer& timer) { static_cast<MirrorStore*>(timer.owner)->on_kick(); };
    for (MirrorHalf& half : halves_) {
        half.flush.request.owner = half.reserve.request.owner = half.probe.owner = half.probe_timer.owner =
            &half;
        half.flush.request.complete = [](FlushRequest& flush, int result) {
            MirrorHalf& its = *static_cast<MirrorHalf*>(flush.owner);
            its.mirror.flush_ended(its, result);
        };
        half.reserve.request.complete = [](ReserveRequest& reserve, int result) {
            MirrorHalf& its = *static_cast<MirrorHalf*>(reserve.owner);
            its.mirror.reserve_ended(its, result);
        };
        half.probe.complete = [](Request& probe, int result) {
            MirrorHalf& its = *static_cast<MirrorHalf*>(probe.owner);
            its.mirror.probe_step_ended(its, result);
        };
        half.probe_timer.fire = [](io::Timer& timer) {
            MirrorHalf& its = *static_cast<MirrorHalf*>(timer.owner);
            its.mirror.on_probe_timer(its);
        };
    }
}

MirrorStore::~MirrorStore() {
    close();
}

std::uint32_t MirrorStore::transfer_max() const noexcept {
    return std::min(halves_[0].store->transfer_max(), halves_[1].store->transfer_max());
}

Store::Counters MirrorStore::counters() const noexcept {
    Counters sum;
    for (const MirrorHalf& half : halves_) {
        const Counters one = half.store->counters();
        sum.reads += one.reads;
        sum.writes += one.writes;
        sum.flushes += one.flushes;
        sum.bytes_read += one.bytes_read;
        sum.bytes_written += one.bytes_written;
        sum.bytes_copied += one.bytes_copied;
        sum.retries += one.retries;
        sum.reconnects += one.reconnects;
    }
    sum.lost_writes = lost_writes_;
    return sum;
}

// ---- flushes: one at a time; those that come meanwhile share the next

void MirrorStore::flush(FlushRequest& flush) noexcept {
    flushes_waiting_.push(flush);
    if (!flush_active_) kick();
}

void MirrorStore::start_flush() noexcept {
    if (flush_active_ || flushes_waiting_.head == nullptr) return;
    flush_active_ = true;
    flush_began_ = io::Clock::now();
    flushes_active_ = std::exchange(flushes_waiting_, {});
    const bool alone = !halves_[0].up() || !halves_[1].up();
    for (MirrorHalf& half : halves_) {
        half.flush.awaited = half.up();
        if (half.up()) submit_flush(half, alone ? flushes_active_.head->timeout : options_.outage_max);
    }
}

void MirrorStore::submit_flush(MirrorHalf& half, std::chrono::milliseconds timeout) noexcept {
    FARSWAP_ASSERT(!half.flush.busy);
    half.flush.busy = true;
    half.flush.request.timeout = timeout;
    half.store->flush(half.flush.request);
}

void MirrorStore::flush_ended(MirrorHalf& half, int result) noexcept {
    half.flush.busy = false;
    half.flush.result = result;
    if (half.state == MirrorHalf::State::kReturning) {
        // -ESTALE: what it lost is marked as missing or will be written again.
        return result == 0 || result == -ESTALE ? continue_return(half) : leave_out(half);
    }
    if (!std::exchange(half.flush.awaited, false)) return;
    // At once, although the other half may not have answered yet: no copy may pass for safe by a flush that
    // comes after the one that was told of a loss. An error of the device may stand for one that it will not
    // speak of again (fsync(2), EIO).
    if (result != 0) resync_.forget_batch(half);
    if (result == -ESTALE) resend_ = true;
    if (result == 0) note_success(half);
    settle_flush();
}

/// Ends the flush when no half is awaited any more.
void MirrorStore::settle_flush() noexcept {
    if (!flush_active_ || halves_[0].flush.awaited || halves_[1].flush.awaited) return;
    int result = 0;
    for (MirrorHalf& half : halves_)
        if (const int error = judge_flush(half); error != 0) result = error;
    if (result == 0 && std::exchange(resend_, false)) result = -ESTALE;
    if (result == -ESTALE) ++lost_writes_;
    flush_active_ = false;
    List<FlushRequest> ended = std::exchange(flushes_active_, {});
    if (flushes_waiting_.head != nullptr) kick();
    while (FlushRequest* flush = ended.pop()) flush->complete(*flush, result);
}

/// What the half's answer means for the whole: 0, or an error that the other cannot make good.
int MirrorStore::judge_flush(MirrorHalf& half) noexcept {
    const int result = std::exchange(half.flush.result, 0);
    if (!half.up() || result == 0) {
        half.flush_failures = 0;
        return 0;
    }
    if (result == -ESTALE) return 0;  // noted
    const MirrorHalf& its_other = other(half);
    if (!its_other.up()) return result;
    const bool passes = is_transient(-result) && result != -ETIMEDOUT;
    if (passes && ++half.flush_failures < kFlushFailuresMax) {
        resend_ = true;
        return 0;
    }
    if (can_lose(half) && its_other.alive_at >= flush_began_) {
        lose(half, result);
        return 0;
    }
    return result;
}

// ---- reserved space

void MirrorStore::reserve(ReserveRequest& reserve) noexcept {
    reserves_.push(reserve);
    kick();
}

void MirrorStore::start_reserve() noexcept {
    if (reserve_active_ || reserves_.head == nullptr) return;
    // One that is just coming back takes what is reserved now along first.
    for (const MirrorHalf& half : halves_)
        if (half.state == MirrorHalf::State::kReturning && half.reserve.busy) return;
    reserve_active_ = true;
    // What is reserved counts in pages here, on a half perhaps in sectors.
    const std::uint64_t bytes = (reserves_.head->bytes + kPageSize - 1) / kPageSize * kPageSize;
    for (MirrorHalf& half : halves_) {
        half.reserve.awaited = half.up();
        half.reserve.result = 0;
        if (half.up()) submit_reserve(half, bytes);
    }
}

void MirrorStore::submit_reserve(MirrorHalf& half, std::uint64_t bytes) noexcept {
    FARSWAP_ASSERT(!half.reserve.busy);
    half.reserve.busy = true;
    half.reserve.request.bytes = bytes;
    half.store->reserve(half.reserve.request);
}

void MirrorStore::reserve_ended(MirrorHalf& half, int result) noexcept {
    half.reserve.busy = false;
    half.reserve.result = result;
    if (half.state == MirrorHalf::State::kReturning) {
        if (result == 0) return continue_return(half);
        log::warning("mirror: {} has no room for what was written while it was away", half.store->name());
        return leave_out(half);
    }
    if (!std::exchange(half.reserve.awaited, false)) return;
    if (result == 0) note_success(half);
    settle_reserve();
}

void MirrorStore::settle_reserve() noexcept {
    if (!reserve_active_ || halves_[0].reserve.awaited || halves_[1].reserve.awaited) return;
    int result = 0;
    for (MirrorHalf& half : halves_)
        if (const int error = judge_reserve(half); error != 0) result = error;
    std::uint64_t both = capacity_;
    for (const MirrorHalf& half : halves_)
        if (half.up()) both = std::min(both, half.store->reserved());
    reserved_ = std::max(reserved_, both / kPageSize * kPageSize);
    reserve_active_ = false;
    ReserveRequest& ended = *reserves_.pop();
    if (result == 0 && reserved_ < ended.bytes) result = -ENOSPC;
    kick();
    ended.complete(ended, result);
}

/// A half that is full makes the whole full; one that fails otherwise is lost.
int MirrorStore::judge_reserve(MirrorHalf& half) noexcept {
    const int result = std::exchange(half.reserve.result, 0);
    if (!half.up() || result == 0 || is_full(result)) return half.up() ? result : 0;
    if (!can_lose(half)) return result;
    lose(half, result);
    return 0;
}

// ---- what runs from the loop

void MirrorStore::kick() noexcept {
    if (!kick_timer_.armed()) loop_.arm(kick_timer_, io::Clock::now());
}

void MirrorStore::on_kick() noexcept {
    List<Request> finished = std::exchange(finished_, {});
    while (Request* request = finished.pop()) request->complete(*request, static_cast<int>(request->done));
    dispatch();
    settle_flush();
    settle_reserve();
    start_flush();
    start_reserve();
    resync_.advance();
}

/// Ends what is the mirror's own and gives both halves up. One that does not answer is left as it is.
void MirrorStore::close() noexcept {
    if (std::exchange(closed_, true)) return;
    FARSWAP_ASSERT(operations_used_ == 0 && waiting_.head == nullptr && finished_.head == nullptr);
    resync_.stop();
    for (MirrorHalf& half : halves_) {
        loop_.cancel(half.probe_timer);
        if (half.in_flight > 0) half.store->cancel(half.probe);
    }
    const auto end = io::Clock::now() + kCloseMax;
    while (!(at_rest(halves_[0]) && at_rest(halves_[1])) && io::Clock::now() < end)
        loop_.run_once(end - io::Clock::now());
    loop_.cancel(kick_timer_);
    for (MirrorHalf& half : halves_) loop_.cancel(half.probe_timer);
    for (MirrorHalf& half : halves_) {
        if (at_rest(half)) {
            half.store->close();
            continue;
        }
        log::warning(
            "{} does not answer and is left as it is; `farswap check --clean URL` removes what "
            "remains",
            half.store->name());
        static_cast<void>(half.store.release());  // requests in flight point into both: better kept
    }
}

}  // namespace farswap
