// See nbd_connection.h.
#include "store/nbd_connection.h"

#include <libnbd.h>

#include <algorithm>
#include <cerrno>

#include "base/assert.h"
#include "base/log.h"
#include "base/no_allocation.h"

namespace farswap::nbd {
namespace {

using namespace std::chrono_literals;

constexpr auto kConnectMax = 5s;  // an attempt to connect, with the handshake

void append(Call*& head, Call*& tail, Call& call) noexcept {
    call.next = nullptr;
    (tail == nullptr ? head : tail->next) = &call;
    tail = &call;
}

Call* take_first(Call*& head, Call*& tail) noexcept {
    Call* const first = head;
    if (first != nullptr) head = first->next;
    if (head == nullptr) tail = nullptr;
    return first;
}

void remove(Call*& head, Call*& tail, Call& call) noexcept {
    Call* before = nullptr;
    for (Call* at = head; at != &call; at = at->next) before = at;
    (before == nullptr ? head : before->next) = call.next;
    if (tail == &call) tail = before;
}

/// What a server or libnbd says of a call whose connection ends: it is no answer.
bool is_end_of_connection(int error) {
    return error == ENOTCONN || error == ESHUTDOWN;
}

}  // namespace

Connection::Connection(io::Loop& loop, std::vector<Endpoint> endpoints, Handle handle,
                       const Geometry& expected, std::string what, Watcher& watcher,
                       std::chrono::milliseconds silence_max)
    : loop_(loop),
      endpoints_(std::move(endpoints)),
      expected_(expected),
      what_(std::move(what)),
      watcher_(watcher),
      handle_(std::move(handle)),
      patience_(silence_max) {
    for (Call& call : calls_) call.connection = this;
    watch_.owner = timer_.owner = settle_timer_.owner = tick_timer_.owner = this;
    watch_.ready = [](io::Watch& watch, std::uint32_t events) {
        static_cast<Connection*>(watch.owner)->on_ready(events);
    };
    timer_.fire = [](io::Timer& timer) { static_cast<Connection*>(timer.owner)->on_timer(); };
    settle_timer_.fire = [](io::Timer& timer) { static_cast<Connection*>(timer.owner)->settle(); };
    tick_timer_.fire = [](io::Timer& timer) { static_cast<Connection*>(timer.owner)->on_tick(); };
    watch();
}

Connection::~Connection() {
    for (io::Timer* timer : {&timer_, &settle_timer_, &tick_timer_}) loop_.cancel(*timer);
    dropping_ = true;
    close();
}

Handle Connection::give_up() noexcept {
    for (io::Timer* timer : {&timer_, &settle_timer_, &tick_timer_}) loop_.cancel(*timer);
    if (watch_.added) loop_.remove(watch_);
    const bool usable = state_ == State::kUp && free_ == kCallsMax;
    state_ = State::kDown;
    if (!usable) handle_.reset();
    return std::move(handle_);
}

// ---- the table of calls

Call* Connection::take(bool internal) noexcept {
    if (free_ <= (internal ? 0 : kInternalCalls)) return nullptr;
    const auto entry = std::ranges::find(calls_, Call::State::kFree, &Call::state);
    FARSWAP_ASSERT(entry != calls_.end());
    --free_;
    entry->state = Call::State::kTaken;
    entry->urgent = false;
    return &*entry;
}

void Connection::release(Call& call) noexcept {
    FARSWAP_ASSERT(call.state == Call::State::kTaken);
    call.state = Call::State::kFree;
    ++free_;
}

void Connection::submit(Call& call) noexcept {
    FARSWAP_ASSERT(call.state == Call::State::kTaken);
    enqueue(call);
    if (state_ == State::kUp && !settle_timer_.armed()) loop_.arm(settle_timer_, io::Clock::now());
}

void Connection::enqueue(Call& call) noexcept {
    call.state = Call::State::kQueued;
    append(send_head_, send_tail_, call);
}

void Connection::abandon(Call& call) noexcept {
    FARSWAP_ASSERT(call.state != Call::State::kFree);
    if (call.state == Call::State::kSent) drop("a call was given up");
    if (call.state == Call::State::kQueued) remove(send_head_, send_tail_, call);
    if (call.state == Call::State::kAnswered) remove(answered_head_, answered_tail_, call);
    call.state = Call::State::kTaken;
    release(call);
}

/// Called by libnbd, inside some call to it, with the handle locked: nothing of libnbd may be called here.
int Connection::answered(void* data, int* error) noexcept {
    Call& call = *static_cast<Call*>(data);
    Connection& self = *call.connection;
    if (self.dropping_ || call.state != Call::State::kSent) return 1;
    if (is_end_of_connection(*error)) {
        self.ended_ = true;  // the call is sent again over the next one
        return 1;
    }
    call.error = -*error;
    call.state = Call::State::kAnswered;
    append(self.answered_head_, self.answered_tail_, call);
    return 1;
}

void Connection::complete_answered() noexcept {
    while (Call* const call = take_first(answered_head_, answered_tail_)) {
        backoff_.reset();
        if (reported_) log::warning("{}: connected again", what_);
        reported_ = false;
        call->state = Call::State::kTaken;
        call->complete(*call, call->error);
    }
}

// ---- connecting

void Connection::connect() noexcept {
    auto handle = start_connecting(endpoints_[endpoint_++ % endpoints_.size()]);
    if (!handle) return retry_connect();
    handle_ = std::move(*handle);
    state_ = State::kConnecting;
    loop_.arm(timer_, io::Clock::now() + kConnectMax);
    check_connecting();
}

/// The handshake has made a step.
void Connection::check_connecting() noexcept {
    if (nbd_aio_is_dead(handle_.get()) != 0 || nbd_aio_is_closed(handle_.get()) != 0) return retry_connect();
    if (nbd_aio_is_ready(handle_.get()) != 1) return watch();
    const Geometry now = geometry_of(handle_.get());
    if (now.size < expected_.size || now.read_only || !now.can_flush || now.block_min > expected_.block_min ||
        now.transfer_max < expected_.transfer_max) {
        if (!std::exchange(reported_, true))
            log::warning("{}: the server is back with a smaller or different export; asking again", what_);
        backoff_.lengthen();
        return retry_connect();
    }
    loop_.cancel(timer_);
    --endpoint_;  // this address serves
    state_ = State::kUp;
    ++counters_.reconnects;
    sends_held_ = true;
    watch();
    watcher_.connected(*this);
    loop_.arm(settle_timer_, io::Clock::now());
}

void Connection::release_sends() noexcept {
    sends_held_ = false;
    if (state_ == State::kUp) loop_.arm(settle_timer_, io::Clock::now());
}

void Connection::close() noexcept {
    if (watch_.added) loop_.remove(watch_);
    shut_down(handle_.get());
    handle_.reset();
    ended_ = false;
    state_ = State::kDown;
}

void Connection::drop(const char* reason) noexcept {
    if (state_ != State::kUp) return;
    const bool idle = free_ == kCallsMax;  // an idle server closes connections; that is not worth a word
    if (!idle && !reported_) log::warning("{}: lost the connection ({}); connecting again", what_, reason);
    reported_ = reported_ || !idle;
    retry_connect();
}

/// Closes what there is of a connection and arranges for the next attempt.
void Connection::retry_connect() noexcept {
    const bool was_up = state_ == State::kUp;
    dropping_ = true;
    close();
    dropping_ = false;
    loop_.arm(timer_, backoff_.next(io::Clock::now()));
    requeue_sent();
    if (was_up) watcher_.lost(*this);
}

/// Calls that were sent go out again, before those that never were. So do writes and flushes whose answer
/// nobody has been told yet: it would be taken for one over the next connection.
void Connection::requeue_sent() noexcept {
    Call* const waiting = std::exchange(send_head_, nullptr);
    Call* const last = std::exchange(send_tail_, nullptr);
    for (Call& call : calls_) {
        if (call.state == Call::State::kAnswered && call.kind != Call::Kind::kRead) {
            remove(answered_head_, answered_tail_, call);
            call.state = Call::State::kSent;
        }
        if (call.state != Call::State::kSent) continue;
        if (call.kind == Call::Kind::kWrite) watcher_.fate_unknown(call);
        ++counters_.resent;
        enqueue(call);
    }
    if (waiting == nullptr) return;
    (send_tail_ == nullptr ? send_head_ : send_tail_->next) = waiting;
    send_tail_ = last;
}

void Connection::on_timer() noexcept {
    if (state_ == State::kConnecting) return retry_connect();
    if (state_ == State::kDown) connect();
}

/// A server that is alive may still owe an answer for ever, and there is no asking for it again over the same
/// connection.
void Connection::on_tick() noexcept {
    ++tick_;
    std::uint32_t oldest = 0;
    bool any = false;
    for (const Call& call : calls_) {
        if (call.state != Call::State::kSent) continue;
        any = true;
        oldest = std::max(oldest, tick_ - call.sent_tick);
    }
    if (patience_.over(oldest)) return drop("no answer to a call for too long");
    if (any) loop_.arm(tick_timer_, io::Clock::now() + patience_.tick());
}

// ---- the state machine of libnbd

/// Has the loop wait for what libnbd waits for.
void Connection::watch() noexcept {
    const unsigned direction = nbd_aio_get_direction(handle_.get());
    std::uint32_t events = 0;
    if ((direction & LIBNBD_AIO_DIRECTION_READ) != 0) events |= EPOLLIN;
    if ((direction & LIBNBD_AIO_DIRECTION_WRITE) != 0) events |= EPOLLOUT;
    if (watch_.added) return loop_.modify(watch_, events);
    watch_.fd = nbd_aio_get_fd(handle_.get());
    watch_.events = events;
    if (watch_.fd >= 0) loop_.add(watch_);
}

void Connection::on_ready(std::uint32_t events) noexcept {
    // Reading first: the answer may tell that writes may go out.
    const unsigned wanted = nbd_aio_get_direction(handle_.get());
    const bool readable = (events & ~static_cast<std::uint32_t>(EPOLLOUT)) != 0;
    if (readable && (wanted & LIBNBD_AIO_DIRECTION_READ) != 0) (void)nbd_aio_notify_read(handle_.get());
    if (state_ == State::kConnecting) {
        if ((events & EPOLLOUT) != 0 &&
            (nbd_aio_get_direction(handle_.get()) & LIBNBD_AIO_DIRECTION_WRITE) != 0)
            (void)nbd_aio_notify_write(handle_.get());
        return check_connecting();
    }
    complete_answered();
    if (state_ != State::kUp) return;  // a callback has given it up
    if ((events & EPOLLOUT) != 0 &&
        (nbd_aio_get_direction(handle_.get()) & LIBNBD_AIO_DIRECTION_WRITE) != 0) {
        if (writes_sent() && !watcher_.may_write()) return drop("it was silent for long");
        (void)nbd_aio_notify_write(handle_.get());
    }
    settle();
}

/// After whatever may have moved libnbd: answers, the end of the connection, what waits to be sent.
void Connection::settle() noexcept {
    complete_answered();
    if (state_ != State::kUp) return;
    send_queued();
    if (ended_ || nbd_aio_is_dead(handle_.get()) != 0 || nbd_aio_is_closed(handle_.get()) != 0)
        return drop("closed by the server");
    if (answered_head_ != nullptr) loop_.arm(settle_timer_, io::Clock::now());
    watch();
}

void Connection::send_queued() noexcept {
    Call* kept_head = nullptr;
    Call* kept_tail = nullptr;
    while (Call* const call = take_first(send_head_, send_tail_)) {
        const bool may_go =
            (!sends_held_ || call->urgent) && (call->kind != Call::Kind::kWrite || watcher_.may_write());
        if (may_go && send(*call)) continue;
        append(kept_head, kept_tail, *call);
    }
    send_head_ = kept_head;
    send_tail_ = kept_tail;
}

/// False when libnbd does not take it: the handle is dead.
bool Connection::send(Call& call) noexcept {
    const MayAllocate command("libnbd takes 112 bytes for each command, and knows no way to be given them");
    nbd_completion_callback callback{};
    callback.callback = answered;
    callback.user_data = &call;
    call.state = Call::State::kSent;
    call.sent_tick = tick_;
    if (!tick_timer_.armed()) loop_.arm(tick_timer_, io::Clock::now() + patience_.tick());
    std::int64_t cookie = -1;
    switch (call.kind) {
        case Call::Kind::kRead:
            cookie = nbd_aio_pread(handle_.get(), call.data, call.length, call.offset, callback, 0);
            break;
        case Call::Kind::kWrite:
            cookie = nbd_aio_pwrite(handle_.get(), call.data, call.length, call.offset, callback, 0);
            break;
        case Call::Kind::kFlush:
            cookie = nbd_aio_flush(handle_.get(), callback, 0);
            break;
    }
    if (cookie >= 0 || call.state != Call::State::kSent) return true;
    const int error = nbd_get_errno();
    if (nbd_aio_is_dead(handle_.get()) == 0 && nbd_aio_is_closed(handle_.get()) == 0 && error != ENOMEM) {
        // Refused by libnbd itself, as by the server.
        call.error = error != 0 ? -error : -EINVAL;
        call.state = Call::State::kAnswered;
        append(answered_head_, answered_tail_, call);
        return true;
    }
    call.state = Call::State::kQueued;
    return false;
}

bool Connection::writes_sent() const noexcept {
    return std::ranges::any_of(calls_, [](const Call& call) {
        return call.state == Call::State::kSent && call.kind == Call::Kind::kWrite;
    });
}

}  // namespace farswap::nbd
