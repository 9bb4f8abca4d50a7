// An NBD export's own business: flushes and what they have to report, the lease's heartbeat, closing; see
// nbd_store.h.
#include <algorithm>
#include <cerrno>

#include "base/assert.h"
#include "base/log.h"
#include "store/nbd_control.h"
#include "store/nbd_store.h"

namespace farswap::nbd {
namespace {

using namespace std::chrono_literals;

constexpr auto kCloseMax = 4s;
constexpr auto kBeatEndMax = 2s;

}  // namespace

// ---- flushes

void NbdStore::flush(FlushRequest& flush) noexcept {
    FARSWAP_ASSERT(!closed_);
    if (lost_ != 0) return finish_later(flush, lost_);
    const bool bounded = flush.timeout.count() > 0;
    const auto deadline = std::chrono::nanoseconds((io::Clock::now() + flush.timeout).time_since_epoch());
    flush.cookie = bounded ? static_cast<std::uint64_t>(deadline.count()) : ~std::uint64_t{0};
    note_deadline(flush.cookie);
    flushes_waiting_.push(flush);
    start_flush();
}

/// One command answers all flushes that wait when it is sent.
void NbdStore::start_flush() noexcept {
    if (flush_call_ != nullptr || flushes_waiting_.head == nullptr || lost_ != 0) return;
    if (writes_lost_ || !unflushed_) {
        const int result = std::exchange(writes_lost_, false) ? -ESTALE : 0;
        if (result != 0) {
            ++counters_.lost_writes;
            log::warning("{}: writes were lost before they were flushed; sending them again", name_);
        }
        while (FlushRequest* flush = flushes_waiting_.pop()) finish_later(*flush, result);
        return;
    }
    flush_call_ = write_connection_.take(true);
    FARSWAP_ASSERT(flush_call_ != nullptr);
    flushes_active_ = flushes_waiting_.take();
    flushing_ = std::exchange(unflushed_, false);
    ++counters_.flushes;
    flush_call_->kind = Call::Kind::kFlush;
    flush_call_->owner = this;
    flush_call_->complete = [](Call& call, int error) {
        static_cast<NbdStore*>(call.owner)->on_flushed(error);
    };
    write_connection_.submit(*flush_call_);
}

void NbdStore::on_flushed(int error) noexcept {
    write_connection_.release(*std::exchange(flush_call_, nullptr));
    flushing_ = false;
    if (error == -ESTALE) error = -EIO;
    if (error != 0) unflushed_ = true;  // for the next flush to try
    // A server's kernel says once what it could not write, and takes it for written from then on (fsync(2),
    // EIO). Whoever hears -EIO writes it all again; when nobody does (the flush ended at its deadline), the
    // next flush has to be told.
    if (error != 0 && (flushes_active_.head == nullptr || error != -EIO)) writes_lost_ = true;
    for (auto flushes = flushes_active_.take(); FlushRequest* flush = flushes.pop();)
        flush->complete(*flush, error);
    start_flush();
}

// ---- the connections' ups and downs

void NbdStore::fate_unknown(const Call& write) noexcept {
    if (write.offset < kLeaseSize) return;  // the lease's own
    late_.note(write.offset, {write.data, write.length}, io::Clock::now());
}

void NbdStore::lost(Connection& connection) noexcept {
    if (&connection != &write_connection_) return;
    writes_lost_ = writes_lost_ || unflushed_ || flushing_;
    unflushed_ = flushing_ = false;
    if (flush_call_ != nullptr) {
        // Sent again, it would say nothing about the writes before it.
        write_connection_.abandon(*std::exchange(flush_call_, nullptr));
        flushes_waiting_.move_if(flushes_active_, [](const FlushRequest&) { return true; });
        flushes_waiting_ = flushes_active_.take();
    }
    kick();
}

/// Who answers now may be another server at the same address, or the same without its data.
void NbdStore::connected(Connection& connection) noexcept {
    check_lease(&connection == &write_connection_ ? write_check_ : read_check_);
}

bool NbdStore::may_write() noexcept {
    if (io::Clock::now() - ours_at_ <= timing_.trust) return true;
    check_lease(write_check_);
    return false;
}

// ---- the lease

Call& NbdStore::lease_call(Connection& connection, Call::Kind kind, LeaseLook& look,
                           void (*complete)(Call& call, int error)) noexcept {
    Call* const call = connection.take(true);
    FARSWAP_ASSERT(call != nullptr);
    call->kind = kind;
    call->offset = 0;
    call->data = look.block.get();
    call->length = kLeaseSize;
    call->owner = &look;
    call->complete = complete;
    return *call;
}

/// Lets calls go out once the lease is seen to be ours.
void NbdStore::check_lease(LeaseLook& look) noexcept {
    if (look.active || lost_ != 0) return;
    look.active = true;
    look.asked = io::Clock::now();
    Call& call = lease_call(*look.connection, Call::Kind::kRead, look, [](Call& answered, int error) {
        auto& its = *static_cast<LeaseLook*>(answered.owner);
        its.connection->release(answered);
        its.store->on_lease_checked(its, error);
    });
    call.urgent = true;
    look.connection->submit(call);
}

void NbdStore::on_lease_checked(LeaseLook& look, int error) noexcept {
    look.active = false;
    if (error != 0) return;  // the next beat tries again
    if (!is_ours(look))
        return lose_lease(
            "it does not hold our record any more: its server lost the data, or somebody else took it");
    // As of the question: the answer may have lain in the socket while this process was stopped.
    ours_at_ = std::max(ours_at_, look.asked);
    look.connection->release_sends();
}

bool NbdStore::is_ours(const LeaseLook& look) const noexcept {
    Lease found;
    const ConstLeaseBlock block(look.block.get(), kLeaseSize);
    return decode_lease(block, found) == LeaseContent::kLease && found.nonce == lease_.nonce;
}

/// Reads the record, and renews it if it is still ours. NBD cannot do both at once; leases are long against
/// that.
void NbdStore::on_beat() noexcept {
    if (lost_ != 0) return;
    loop_.arm(beat_timer_, io::Clock::now() + timing_.beat);
    for (LeaseLook* look : {&write_check_, &read_check_})
        if (look->connection != nullptr && look->connection->held()) check_lease(*look);
    if (beat_.active) return;
    beat_.active = true;
    beat_.asked = io::Clock::now();
    write_connection_.submit(
        lease_call(write_connection_, Call::Kind::kRead, beat_, [](Call& call, int error) {
            auto& look = *static_cast<LeaseLook*>(call.owner);
            look.connection->release(call);
            look.store->on_lease_read(error);
        }));
}

void NbdStore::on_lease_read(int error) noexcept {
    if (error != 0) {
        beat_.active = false;
        if (!std::exchange(beat_reported_, true)) log::warning("{}: cannot read the lease", name_);
        return;
    }
    if (!is_ours(beat_)) {
        beat_.active = false;
        return lose_lease("somebody else has taken the export over");
    }
    ours_at_ = std::max(ours_at_, beat_.asked);
    write_connection_.release_sends();
    renew_lease(lease_);
    encode_lease(lease_, LeaseBlock(beat_.block.get(), kLeaseSize));
    write_connection_.submit(
        lease_call(write_connection_, Call::Kind::kWrite, beat_, [](Call& call, int failure) {
            auto& look = *static_cast<LeaseLook*>(call.owner);
            look.connection->release(call);
            look.store->on_lease_written(failure);
        }));
}

void NbdStore::on_lease_written(int error) noexcept {
    beat_.active = false;
    if (error != 0 && !beat_reported_)
        log::warning("{}: cannot renew the lease: {}", name_, strerrordesc_np(-error));
    beat_reported_ = error != 0;
}

/// From now on nothing may touch the export: what is in it may be another's. What is under way is given up
/// from the loop, as this may be inside the answer to a part of it.
void NbdStore::lose_lease(const char* reason) noexcept {
    if (lost_ != 0) return;
    lost_ = -EIO;
    log::warning("{}: the store is lost: {}", name_, reason);
    kick();
}

/// Marks the export as free, unless another has taken it since the last beat. Over the connection that is
/// there, as some servers allow one only.
Status NbdStore::free_lease() {
    const auto deadline = std::chrono::steady_clock::now() + kCloseMax;
    Handle handle = write_connection_.give_up();
    auto control = handle ? Result<Control>(Control(endpoints_.front(), std::move(handle)))
                          : Control::connect(endpoints_, deadline);
    if (!control) return std::unexpected(control.error());
    control->set_deadline(deadline);
    const LeaseBlock block(beat_.block.get(), kLeaseSize);
    if (Status got = control->read(0, block); !got) return got;
    if (is_ours(beat_)) {
        lease_.state = Lease::State::kFree;
        renew_lease(lease_);
        encode_lease(lease_, block);
        if (Status put = control->write(0, block); !put) return put;
        if (Status kept = control->flush(); !kept) return kept;
    }
    control->disconnect();
    return {};
}

void NbdStore::close() noexcept {
    if (std::exchange(closed_, true)) return;
    loop_.cancel(beat_timer_);
    const auto limit = io::Clock::now() + kBeatEndMax;
    while (beat_.active && lost_ == 0 && io::Clock::now() < limit) loop_.run_once(100ms);
    if (lost_ != 0) return;
    if (Status freed = free_lease(); !freed)
        log::warning("{}; the next job that uses the export has to wait until our lease is over",
                     freed.error().message);
}

}  // namespace farswap::nbd
