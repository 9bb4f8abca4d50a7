// An NFS file's own business: flushes and the verifier, reserving space, the lease's heartbeat, closing; see
// nfs_file.h.
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <thread>

#include "base/assert.h"
#include "base/log.h"
#include "store/nfs_file.h"

namespace farswap::nfs {
namespace {

using namespace std::chrono_literals;

constexpr auto kCloseMax = 4s;
constexpr auto kCloseRetry = 100ms;
constexpr std::uint32_t kZerosMax = 256 * 1024;       // bytes a write of zeros
constexpr std::uint32_t kZerosInFlight = 4;           // keeps the server busy, and requests hardly waiting
constexpr std::uint32_t kReserveAttemptsMax = 8;      // a step that server restarts keep undoing
static_assert(kZerosInFlight + 3 <= kInternalCalls);  // + commit, reserve's commit, heartbeat

alignas(4096) constexpr std::array<std::byte, kZerosMax> kZeros{};

bool is_connection_error(int code) {
    return code == ECONNRESET || code == ECONNREFUSED || code == EPIPE;
}

}  // namespace

void Unstable::add(const Verifier& verifier) noexcept {
    mixed_ = mixed_ || (any_ && verifier_ != verifier);
    any_ = true;
    verifier_ = verifier;
}

void Unstable::add(const Unstable& other) noexcept {
    if (!other.any_) return;
    add(other.verifier_);
    mixed_ = mixed_ || other.mixed_;
}

/// An entry of the table that is kept free for us: see kInternalCalls. Its owner is the file.
Call& NfsFile::internal_call(Lane& lane, Procedure procedure, std::uint64_t offset, std::byte* data,
                             std::uint32_t length, void (*complete)(Call& call)) noexcept {
    Call* const call = lane.connections.take(true);
    FARSWAP_ASSERT(call != nullptr);
    call->procedure = procedure;
    call->offset = offset;
    call->data = data;
    call->length = length;
    call->owner = this;
    call->complete = complete;
    return *call;
}

// ---- flushes

void NfsFile::flush(FlushRequest& flush) noexcept {
    if (lost_ != 0) return finish_later(flush, lost_);
    const bool bounded = flush.timeout.count() > 0;
    const auto deadline = std::chrono::nanoseconds((io::Clock::now() + flush.timeout).time_since_epoch());
    flush.cookie = bounded ? static_cast<std::uint64_t>(deadline.count()) : ~std::uint64_t{0};
    note_deadline(flush.cookie);
    flushes_waiting_.push(flush);
    start_flush();
}

/// One COMMIT answers all flushes that wait when it is sent, and covers all writes that have completed by
/// then. There is one at a time, for flushes and reserved space: of a failure the server may tell the first
/// that asks only, and what that one is for must not matter then.
void NfsFile::start_flush() noexcept {
    if (commit_active_) return;
    if (unstable_.empty())
        while (FlushRequest* flush = flushes_waiting_.pop()) finish_later(*flush, 0);
    if (flushes_waiting_.head != nullptr || reserving_.written) start_commit();
}

void NfsFile::start_commit() noexcept {
    commit_active_ = true;
    flushes_active_ = std::exchange(flushes_waiting_, {});
    committing_ = std::exchange(unstable_, {});
    reserving_.committed = std::exchange(reserving_.written, false);
    if (flushes_active_.head != nullptr) ++counters_.flushes;
    writes_.connections.submit(internal_call(writes_, Procedure::kCommit, 0, nullptr, 0, [](Call& call) {
        auto& file = *static_cast<NfsFile*>(call.owner);
        const Reply reply = call.reply;
        file.writes_.connections.release(call);
        file.on_commit(reply);
    }));
}

void NfsFile::on_commit(const Reply& reply) noexcept {
    commit_active_ = false;
    const bool reserved = std::exchange(reserving_.committed, false);
    List<FlushRequest> flushes = std::exchange(flushes_active_, {});
    const int result = judge_commit(reply, flushes);
    if (result == -ESTALE && flushes.head != nullptr) ++counters_.lost_writes;
    settle_flushes(flushes, result);
    if (reserved) on_reserve_commit(reply);
    start_flush();
}

/// What a COMMIT says of the writes that it covers, to those flushes.
int NfsFile::judge_commit(const Reply& reply, List<FlushRequest>& flushes) noexcept {
    const Unstable covered = std::exchange(committing_, {});
    if (reply.error != 0) {
        const int result = reply.error == -ESTALE ? -EIO : reply.error;
        unstable_.add(covered);  // for the next flush to try
        // A server's kernel says once what it could not write, and takes it for written from then on
        // (fsync(2), EIO). Whoever hears -EIO writes it all again; when nobody does (the flush ended at its
        // deadline, or the COMMIT was for reserved space), the next flush has to be told.
        if (flushes.head == nullptr || result != -EIO) unstable_.lose();
        reserving_.unstable.lose();
        return result;
    }
    // One that was refused before may have failed then, as above, and succeeded for want of anything to do.
    if (covered.kept_by(reply.verifier) && !reply.insisted) return 0;
    log::warning("{}: the server {} lost writes that it had taken; sending them again", file_.name,
                 reply.insisted ? "may have" : "restarted and");
    // Those that came later ask about the same lost writes. When nobody asks, the next one has to be told.
    flushes_waiting_.move_if(flushes, [](const FlushRequest&) { return true; });
    if (flushes.head == nullptr) unstable_.lose();
    return -ESTALE;
}

void NfsFile::settle_flushes(List<FlushRequest>& flushes, int result) noexcept {
    while (FlushRequest* flush = flushes.pop()) flush->complete(*flush, result);
}

// ---- reserved space: NFSv3 has no call for it, so zeros are written

void NfsFile::reserve(ReserveRequest& reserve) noexcept {
    reserves_.push(reserve);
    kick();
}

/// Answers what can be answered and goes on with the first that cannot.
void NfsFile::advance_reserve() noexcept {
    while (!reserving_.active && reserves_.head != nullptr) {
        ReserveRequest& first = *reserves_.head;
        int result = reserving_.error;
        if (first.bytes <= file_.reserved) {
            result = 0;
        } else if (lost_ != 0) {
            result = lost_;
        } else if (first.bytes > file_.capacity) {
            result = -ENOSPC;
        } else if (result == 0) {
            reserving_ = {};
            reserving_.active = true;
            reserving_.end = std::min(first.bytes, file_.reserved + reserve_step_);
            reserving_.next = file_.reserved;
            return send_zeros();
        }
        reserving_.error = 0;
        reserves_.pop();
        first.complete(first, result);
    }
}

void NfsFile::send_zeros() noexcept {
    Reserving& now = reserving_;
    if (lost_ != 0) {
        now.error = lost_;
        now.next = now.end = file_.reserved;
    }
    const auto piece_max = std::min(kZerosMax, writes_.transfer_max);
    while (now.next < now.end && now.error == 0 && now.in_flight < kZerosInFlight) {
        const auto length =
            static_cast<std::uint32_t>(std::min<std::uint64_t>(piece_max, now.end - now.next));
        // A WRITE only reads the memory.
        Call& call = internal_call(
            writes_, Procedure::kWrite, kLeaseSize + now.next, const_cast<std::byte*>(kZeros.data()), length,
            [](Call& answered) { static_cast<NfsFile*>(answered.owner)->on_zeros(answered); });
        now.next += length;
        ++now.in_flight;
        writes_.connections.submit(call);
    }
    if (now.in_flight > 0) return;
    if (now.next <= file_.reserved) {  // not a byte of it
        now.active = false;
        return kick();
    }
    now.written = true;
    start_flush();
}

void NfsFile::on_zeros(Call& call) noexcept {
    Reserving& now = reserving_;
    const Reply reply = call.reply;
    if (reply.error == 0 && !reply.durable) now.unstable.add(reply.verifier);
    if (reply.error == 0 && reply.count > 0 && reply.count < call.length) {
        call.offset += reply.count;
        call.length -= reply.count;
        return writes_.connections.submit(call);
    }
    if (reply.error != 0 || reply.count != call.length) {
        // What lies before it is good: end there. (Pieces beyond it may have been written, in vain.)
        now.error = reply.error == 0 || reply.error == -ESTALE ? -EIO : reply.error;
        now.next = now.end = std::min(now.end, (call.offset - kLeaseSize) / kPageSize * kPageSize);
    }
    writes_.connections.release(call);
    --now.in_flight;
    send_zeros();
}

void NfsFile::on_reserve_commit(const Reply& reply) noexcept {
    Reserving& now = reserving_;
    const bool kept = now.unstable.kept_by(reply.verifier) && !reply.insisted;
    if (reply.error == 0 && !kept) {
        reserve_step_ = std::max(reserve_step_ / 2, kReserveStepMin);
        if (++now.attempts < kReserveAttemptsMax) {
            // Lost with the server's memory: written again, with fewer at stake.
            now.next = file_.reserved;
            now.end = std::min(now.end, file_.reserved + reserve_step_);
            now.unstable = {};
            return send_zeros();
        }
    }
    if (reply.error == 0 && kept) {
        file_.reserved = now.end;
        reserve_step_ = std::min(reserve_step_ * 2, kReserveStep);
    } else {
        now.error = reply.error == 0 || reply.error == -ESTALE ? -EIO : reply.error;
    }
    now.active = false;
    advance_reserve();
}

// ---- the lease

/// Reads the record, and renews it if it is still ours. NFSv3 cannot do both at once; leases are long against
/// that.
void NfsFile::on_beat() noexcept {
    loop_.arm(beat_timer_, io::Clock::now() + timing_.beat);
    check_lease();
    if (beating_.active || lost_ != 0) return;
    beating_.active = true;
    beating_.asked = io::Clock::now();
    reads_.connections.submit(
        internal_call(reads_, Procedure::kRead, 0, beating_.block.data(), kLeaseSize, [](Call& call) {
            auto& file = *static_cast<NfsFile*>(call.owner);
            const Reply reply = call.reply;
            file.reads_.connections.release(call);
            file.on_lease_read(reply);
        }));
}

/// Reads do no harm to whom the file may belong by now; what they bring does not pass for our pages.
bool NfsFile::Lane::may_send() noexcept {
    if (this == &file.reads_ || io::Clock::now() - file.ours_at_ <= file.timing_.trust_max) return true;
    file.checking_.wanted = true;
    file.check_lease();
    return false;
}

/// Lets writes go on once the lease is seen to be ours. A renewal may be among those writes, so that it
/// cannot be waited for.
void NfsFile::check_lease() noexcept {
    if (!checking_.wanted || checking_.active || lost_ != 0) return;
    checking_.active = true;
    checking_.asked = io::Clock::now();
    reads_.connections.submit(
        internal_call(reads_, Procedure::kRead, 0, checking_.block.data(), kLeaseSize, [](Call& call) {
            auto& file = *static_cast<NfsFile*>(call.owner);
            const Reply reply = call.reply;
            file.reads_.connections.release(call);
            file.on_lease_checked(reply);
        }));
}

void NfsFile::on_lease_checked(const Reply& reply) noexcept {
    checking_.active = false;
    if (reply.error == -ESTALE) return lose_lease("the file is gone from the server");
    if (reply.error != 0 || reply.count != kLeaseSize) return;  // the next beat tries again
    if (!is_ours(checking_.block)) return lose_lease("somebody else has taken the file over");
    checking_.wanted = false;
    // As of the question: the answer may have lain in the socket while this process was stopped.
    ours_at_ = std::max(ours_at_, checking_.asked);
    writes_.connections.release_sends();
}

bool NfsFile::is_ours(ConstLeaseBlock block) const noexcept {
    Lease found;
    return decode_lease(block, found) == LeaseContent::kLease && found.nonce == file_.lease.nonce;
}

void NfsFile::on_lease_read(const Reply& reply) noexcept {
    if (reply.error != 0 || reply.count != kLeaseSize) {
        beating_.active = false;
        if (reply.error == -ESTALE) return lose_lease("the file is gone from the server");
        if (!std::exchange(beating_.reported, true)) log::warning("{}: cannot read the lease", file_.name);
        return;
    }
    if (!is_ours(beating_.block)) {
        beating_.active = false;
        return lose_lease("somebody else has taken the file over");
    }
    ours_at_ = std::max(ours_at_, beating_.asked);
    renew_lease(file_.lease);
    encode_lease(file_.lease, beating_.block);
    writes_.connections.submit(
        internal_call(writes_, Procedure::kWrite, 0, beating_.block.data(), kLeaseSize, [](Call& call) {
            auto& file = *static_cast<NfsFile*>(call.owner);
            const Reply written = call.reply;
            file.writes_.connections.release(call);
            file.on_lease_written(written);
        }));
}

void NfsFile::on_lease_written(const Reply& reply) noexcept {
    beating_.active = false;
    const bool failed = reply.error != 0;
    if (failed && !beating_.reported) {
        log::warning("{}: cannot renew the lease: {}", file_.name, strerrordesc_np(-reply.error));
    }
    beating_.reported = failed;
}

/// From now on nothing may touch the file: what is in it may be another's. What is under way is given up from
/// the loop, as this may be inside the answer to a part of it.
void NfsFile::lose_lease(const char* reason) noexcept {
    if (lost_ != 0) return;
    lost_ = -EIO;
    log::warning("{}: the store is lost: {}", file_.name, reason);
    kick();
}

/// Over a connection of its own: those for requests are the loop's.
Status NfsFile::give_up_file(Deadline deadline) {
    auto control = Control::connect(file_.server, deadline);
    if (!control) return std::unexpected(control.error());
    if (!file_.remove_at_close) return free_lease(**control);
    auto removed = (*control)->remove(file_.directory, file_.file_name);
    // Gone already: by an attempt whose answer was lost.
    return removed || removed.error().code == ENOENT ? Status{} : removed;
}

/// Marks the file as free, unless another has taken it since the last beat.
Status NfsFile::free_lease(Control& control) {
    auto& block = beating_.block;
    const auto count = control.read(file_.file, 0, block);
    if (!count) return std::unexpected(count.error());
    if (*count != block.size() || !is_ours(block)) return {};
    file_.lease.state = Lease::State::kFree;
    encode_lease(file_.lease, block);
    Verifier verifier;
    const auto written = control.write(file_.file, 0, block, file_.write_max, verifier);
    return written ? Status{} : std::unexpected(written.error());
}

void NfsFile::close() noexcept {
    if (std::exchange(closed_, true)) return;
    loop_.cancel(beat_timer_);
    if (lost_ != 0) return;
    const auto end = std::chrono::steady_clock::now() + kCloseMax;
    Status status = give_up_file(end);
    // The server may be on its way back.
    while (!status && is_connection_error(status.error().code) && std::chrono::steady_clock::now() < end) {
        std::this_thread::sleep_for(kCloseRetry);
        status = give_up_file(end);
    }
    if (!status) {
        log::warning("{}: cannot give up {}: {}; `farswap check --clean` removes it later", file_.name,
                     file_.file_name, status.error().message);
    }
}

}  // namespace farswap::nfs
