// One NFS connection: its table of calls, connecting, sending and receiving; see nfs_connection.h.
#include "store/nfs_connection.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/assert.h"
#include "base/log.h"

namespace farswap::nfs {
namespace {

using namespace std::chrono_literals;

constexpr auto kConnectMax = 5s;      // an attempt to connect
constexpr auto kResumeAfter = 100ms;  // NFS3ERR_JUKEBOX: "wait a while", RFC 1813 section 2.6
constexpr int kReceivesMax = 64;      // in one go, so that the loop's other work gets its turn
constexpr std::size_t kSegmentsMax = 48;
constexpr std::uint32_t kSlotBits = 7;          // of an xid; the others number the call
constexpr std::uint32_t kStepSlot = kCallsMax;  // of the xid of the protocol's own call
static_assert(kStepSlot < 1u << kSlotBits);

/// What a server may say of a file that it serves a moment later.
bool may_pass(int error) {
    return error == -ESTALE || error == -EACCES || error == -EREMOTEIO;
}

std::uint32_t total_size(const Call& call) {
    return call.head_size + (call.carries_data() ? call.length + padding(call.length) : 0);
}

void set_option(int fd, int level, int option, int value) {
    // Each is a refinement: a connection without it works, more slowly or noticing a dead server later.
    (void)::setsockopt(fd, level, option, &value, sizeof value);
}

void set_options(int fd) {
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    // A server that is gone without a word is noticed within 25 s. One that is up but slow is waited for: see
    // Patience.
    set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, 10);
    set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, 5);
    set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, 3);
    set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, 25'000);
}

}  // namespace

Connection::Connection(io::Loop& loop, const Address& address, Protocol& protocol, std::string server,
                       std::uint32_t write_max, Watcher& watcher, std::uint32_t index,
                       const ConnectionLimits& limits)
    : loop_(loop),
      address_(address),
      protocol_(protocol),
      server_(std::move(server)),
      write_max_(write_max),
      watcher_(watcher),
      patience_(limits.silence_max),
      refusal_max_(limits.refusal_max),
      next_number_(static_cast<std::uint32_t>(random_number())),
      spare_(std::make_unique_for_overwrite<std::byte[]>(write_max)),
      receiver_(*this, protocol) {
    for (auto call = calls_.rbegin(); call != calls_.rend(); ++call) {
        call->connection = index;
        call->next = std::exchange(free_list_, &*call);
    }
    watch_.owner = timer_.owner = resume_timer_.owner = tick_timer_.owner = this;
    watch_.ready = [](io::Watch& watch, std::uint32_t events) {
        static_cast<Connection*>(watch.owner)->on_ready(events);
    };
    timer_.fire = [](io::Timer& timer) { static_cast<Connection*>(timer.owner)->on_timer(); };
    resume_timer_.fire = [](io::Timer& timer) { static_cast<Connection*>(timer.owner)->resume_delayed(); };
    tick_timer_.fire = [](io::Timer& timer) { static_cast<Connection*>(timer.owner)->on_tick(); };
    connect();
}

Connection::~Connection() {
    loop_.cancel(timer_);
    loop_.cancel(resume_timer_);
    loop_.cancel(tick_timer_);
    close();
}

// ---- the table of calls

Call* Connection::take(bool internal) noexcept {
    if (free_ <= (internal ? 0 : kInternalCalls)) return nullptr;
    Call* const entry = free_list_;
    FARSWAP_ASSERT(entry != nullptr && entry->state == Call::State::kFree);
    free_list_ = entry->next;
    --free_;
    entry->state = Call::State::kTaken;
    entry->internal = internal;
    entry->abandoned = entry->in_doubt = entry->probe = false;
    return entry;
}

void Connection::submit(Call& call) noexcept {
    FARSWAP_ASSERT(call.state == Call::State::kTaken);
    call.in_doubt = false;
    call.refused_since = {};
    number(call);
    enqueue(call);
    if (!receiving_) send();
}

void Connection::number(Call& call) noexcept {
    const auto slot = &call == &step_ ? kStepSlot : static_cast<std::uint32_t>(&call - calls_.data());
    call.xid = next_number_++ << kSlotBits | slot;
    call.head_size = 0;
}

void Connection::release(Call& call) noexcept {
    FARSWAP_ASSERT(call.state == Call::State::kTaken);
    free_entry(call, false);
}

void Connection::abandon(Call& call) noexcept {
    switch (call.state) {
        case Call::State::kQueued:
            if (call.sent == 0) {
                if (call.in_doubt && keep_for_probe(call)) return;
                unlink(call);
                protocol_.dropped(call);
                free_entry(call, false);
                return;
            }
            call.abandoned = true;
            if (call.procedure != Procedure::kWrite) return;
            // The server waits for the rest of the record, and the memory is not ours any more. Breaking the
            // connection instead would leave the writes before this one in doubt. Only the head of the queue
            // is ever partly sent, so one spare buffer is enough.
            ++abandoned_writes_;
            FARSWAP_ASSERT(&call == send_head_ && call.length <= write_max_);
            std::memcpy(spare_.get(), call.data, call.length);
            counters_.copied += call.length;
            call.data = spare_.get();
            return;
        case Call::State::kSent:
            call.abandoned = true;
            if (call.procedure == Procedure::kWrite) ++abandoned_writes_;
            return;
        case Call::State::kDelayed:
            if (call.in_doubt && keep_for_probe(call)) return;
            protocol_.dropped(call);
            free_entry(call, false);
            return;
        case Call::State::kTaken:
            free_entry(call, false);
            return;
        case Call::State::kFree:
            FARSWAP_ASSERT(!"abandoned a call that is not in flight");
    }
}

/// Whether the call keeps its entry until the server has said that it will not execute it any more.
bool Connection::keep_for_probe(Call& call) noexcept {
    if (!protocol_.has_probes()) return false;
    if (!std::exchange(call.abandoned, true) && call.procedure == Procedure::kWrite) ++abandoned_writes_;
    call.probe = true;
    call.head_size = 0;
    return true;
}

void Connection::free_entry(Call& call, bool tell) noexcept {
    if (call.abandoned && call.procedure == Procedure::kWrite) --abandoned_writes_;
    call.state = Call::State::kFree;
    call.abandoned = false;
    call.next = std::exchange(free_list_, &call);
    ++free_;
    if (tell) watcher_.slot_freed();
}

bool Connection::abandoned_write_overlaps(std::uint64_t offset, std::uint64_t length) const noexcept {
    if (abandoned_writes_ == 0) return false;
    return std::any_of(calls_.begin(), calls_.end(), [&](const Call& call) {
        return call.abandoned && call.procedure == Procedure::kWrite && call.offset < offset + length &&
               offset < call.offset + call.length;
    });
}

Call* Connection::find(std::uint32_t xid) noexcept {
    const std::uint32_t slot = xid & ((1u << kSlotBits) - 1);
    if (slot > kStepSlot) return nullptr;
    Call& call = slot == kStepSlot ? step_ : calls_[slot];
    return call.state == Call::State::kSent && call.xid == xid ? &call : nullptr;
}

void Connection::replied(Call& call) noexcept {
    receiver_.answered(call);
    protocol_.answered(call);
    if (&call == &step_) {
        call.state = call.reply.try_later ? Call::State::kDelayed : Call::State::kFree;
        return call.reply.try_later ? resume_soon() : submit_step();
    }
    if (call.reply.error != 0) submit_step();  // it may have cost what was agreed
    if (!call.reply.again) {
        if (call.abandoned) return free_entry(call, true);
        call.in_doubt = false;
    } else if (call.abandoned) {
        (void)keep_for_probe(call);
    }
    if (call.reply.try_later) {
        call.state = Call::State::kDelayed;
        watcher_.told_to_wait();
        return resume_soon();
    }
    if (call.reply.again) {
        ++counters_.resent;
        number(call);
        return enqueue(call);
    }
    if (ask_again(call)) return;
    if (call.reply.error == 0) note_served();
    call.reply.insisted = call.refused_since != io::Clock::time_point{};
    call.state = Call::State::kTaken;
    call.complete(call);
}

/// Whether a call that was refused is sent again.
bool Connection::ask_again(Call& call) noexcept {
    if (!may_pass(call.reply.error)) return false;
    const auto now = io::Clock::now();
    if (call.refused_since == io::Clock::time_point{}) call.refused_since = now;
    if (now - call.refused_since >= refusal_max_) return false;
    if (!std::exchange(refusal_reported_, true))
        log::warning("{}: the server refuses what it served before ({}); asking again for {} s", server_,
                     strerrordesc_np(-call.reply.error),
                     std::chrono::duration_cast<std::chrono::seconds>(refusal_max_).count());
    call.state = Call::State::kDelayed;
    watcher_.told_to_wait();
    if (!resume_timer_.armed()) loop_.arm(resume_timer_, refusals_.next(now));
    return true;
}

void Connection::note_served() noexcept {
    refusals_.reset();
    if (std::exchange(refusal_reported_, false)) log::warning("{}: the server takes calls again", server_);
}

void Connection::resume_soon() noexcept {
    if (resume_timer_.index == ~0u) loop_.arm(resume_timer_, io::Clock::now() + kResumeAfter);
}

void Connection::resume_delayed() noexcept {
    for (Call& call : calls_) {
        if (call.state != Call::State::kDelayed) continue;
        ++counters_.resent;
        // With the old number a server may repeat the refusal that it remembers, for ever: RFC 1813
        // section 2.6 asks for a new one.
        number(call);
        enqueue(call);
    }
    if (step_.state == Call::State::kDelayed) step_.state = Call::State::kFree;
    submit_step();
    send();
}

/// Puts what the protocol has to agree with the server before all that waits, but for a call that is partly
/// sent.
void Connection::submit_step() noexcept {
    if (state_ != State::kUp || step_.state != Call::State::kFree) return;
    step_.procedure = Procedure::kSetup;
    number(step_);
    if (!protocol_.next_step(step_)) return;
    step_.state = Call::State::kQueued;
    step_.sent = 0;
    Call*& before = send_head_ != nullptr && send_head_->sent > 0 ? send_head_->next : send_head_;
    step_.next = before;
    before = &step_;
    if (step_.next == nullptr) send_tail_ = &step_;
}

void Connection::enqueue(Call& call) noexcept {
    call.state = Call::State::kQueued;
    call.sent = 0;
    call.next = nullptr;
    (send_tail_ == nullptr ? send_head_ : send_tail_->next) = &call;
    send_tail_ = &call;
}

void Connection::unlink(Call& call) noexcept {
    Call* before = nullptr;
    for (Call* at = send_head_; at != &call; at = at->next) before = at;
    (before == nullptr ? send_head_ : before->next) = call.next;
    if (send_tail_ == &call) send_tail_ = before;
}

// ---- connecting

void Connection::connect() noexcept {
    fd_.reset(::socket(address_.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (!fd_) return retry_connect();
    set_options(fd_.get());
    bind_reserved_port(fd_.get(), address_, next_number_++);
    state_ = State::kConnecting;
    const int rc = ::connect(fd_.get(), reinterpret_cast<const sockaddr*>(&address_.storage), address_.size);
    if (rc < 0 && errno != EINPROGRESS) return retry_connect();
    watch_.fd = fd_.get();
    watch_.events = EPOLLOUT;
    loop_.add(watch_);
    loop_.arm(timer_, io::Clock::now() + kConnectMax);
}

void Connection::connected() noexcept {
    int error = 0;
    socklen_t size = sizeof error;
    if (::getsockopt(fd_.get(), SOL_SOCKET, SO_ERROR, &error, &size) < 0 || error != 0)
        return retry_connect();
    loop_.cancel(timer_);
    state_ = State::kUp;
    if (std::exchange(was_up_, true)) ++counters_.reconnects;
    watch(EPOLLIN);
    submit_step();
    send();
}

/// The server answers: a connection alone is no sign of it, for a proxy or a dying server accepts some and
/// closes them.
void Connection::answered() noexcept {
    backoff_.reset();
    if (reported_) log::warning("{}: connected again", server_);
    reported_ = false;
}

/// The connection has broken: everything that was under way goes out again over the next one.
void Connection::lost(const char* reason) noexcept {
    // An idle server closes connections; only a loss under way is worth a word.
    const bool idle = free_ == kCallsMax;
    if (!idle && !reported_) log::warning("{}: lost the connection ({}); connecting again", server_, reason);
    reported_ = reported_ || !idle;
    retry_connect();
}

/// Resets the connection at once, so that the server drops what it has not read of it yet. close(2) alone
/// would leave it open for as long as the loop's poll in the kernel holds on to it.
void Connection::close() noexcept {
    if (watch_.added) loop_.remove(watch_);
    const sockaddr nowhere{.sa_family = AF_UNSPEC, .sa_data = {}};
    if (fd_) (void)::connect(fd_.get(), &nowhere, sizeof nowhere);
    fd_.reset();
    state_ = State::kDown;
}

void Connection::release_sends() noexcept {
    if (!std::exchange(sends_held_, false)) return;
    if (state_ == State::kUp) send_queued();
}

/// Closes what there is of a connection and arranges for the next attempt.
void Connection::retry_connect() noexcept {
    close();
    receiver_.reset();
    loop_.arm(timer_, backoff_.next(io::Clock::now()));
    protocol_.disconnected();
    if (step_.state == Call::State::kQueued) unlink(step_);
    if (step_.state != Call::State::kDelayed) step_.state = Call::State::kFree;
    requeue_sent();
}

/// A session executes a call once, and answers a probe when it will not execute it any more.
void Connection::tell_of_doubt(const Call& call) noexcept {
    if (call.procedure == Procedure::kWrite && !protocol_.has_probes())
        watcher_.write_in_doubt(call.offset, call.length);
}

void Connection::requeue_sent() noexcept {
    if (send_head_ != nullptr && send_head_->sent > 0) {
        Call& head = *send_head_;
        tell_of_doubt(head);
        head.sent = 0;
        head.in_doubt = true;
        if (head.abandoned && !keep_for_probe(head)) {
            unlink(head);
            free_entry(head, true);
        } else {
            ++counters_.resent;
        }
    }
    for (Call& call : calls_) {
        if (call.state != Call::State::kSent) continue;
        tell_of_doubt(call);
        call.in_doubt = true;
        if (call.abandoned && !keep_for_probe(call)) {
            free_entry(call, true);
        } else {
            ++counters_.resent;
            enqueue(call);
        }
    }
}

void Connection::on_timer() noexcept {
    if (state_ == State::kConnecting) return retry_connect();
    if (state_ == State::kDown) connect();
}

/// A server that is alive may still owe an answer for ever: what it has lost is sent again over another
/// connection, as over this one it would be a second call to some servers, and forbidden to others (RFC 8881,
/// section 2.10.6.2).
void Connection::on_tick() noexcept {
    ++tick_;
    std::uint32_t oldest = 0;
    bool any = false;
    const auto look_at = [&](const Call& call) {
        if (call.state != Call::State::kSent) return;
        any = true;
        oldest = std::max(oldest, tick_ - call.sent_tick);
    };
    std::ranges::for_each(calls_, look_at);
    look_at(step_);
    if (patience_.over(oldest)) return lost("no answer to a call for too long");
    if (any) loop_.arm(tick_timer_, io::Clock::now() + patience_.tick());
}

void Connection::watch(std::uint32_t events) noexcept {
    if (watch_.events != events) loop_.modify(watch_, events);
    watch_.events = events;
}

void Connection::on_ready(std::uint32_t events) noexcept {
    if (state_ == State::kConnecting) return connected();
    if ((events & ~static_cast<std::uint32_t>(EPOLLOUT)) != 0) receive();
    if (state_ == State::kUp) send();
}

// ---- the stream

void Connection::receive() noexcept {
    const char* failure = nullptr;
    receiving_ = true;
    for (int i = 0; i < kReceivesMax && receive_some(failure); ++i) {
    }
    receiving_ = false;
    if (failure != nullptr) lost(failure);
}

/// Receives once. False: there is no more now, or `failure` says what is wrong.
bool Connection::receive_some(const char*& failure) noexcept {
    const std::span<const iovec> places = receiver_.places();
    const ssize_t got = ::readv(fd_.get(), places.data(), static_cast<int>(places.size()));
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return false;
    if (got <= 0) {
        failure = got == 0 ? "closed by the server" : strerrordesc_np(errno);
        return false;
    }
    if (reported_ || backoff_.has_begun()) answered();
    const Received received = receiver_.received(static_cast<std::size_t>(got));
    if (received == Received::kMalformed) {
        failure = "a reply that cannot be decoded";
        backoff_.lengthen();
    }
    return received == Received::kMore;
}

Connection::Counters Connection::counters() const noexcept {
    Counters counters = counters_;
    counters.copied += receiver_.copied();
    return counters;
}

void Connection::send() noexcept {
    if (state_ != State::kUp) return;
    if (send_head_ != nullptr && !sends_held_) sends_held_ = !watcher_.may_send();
    if (sends_held_) return watch(EPOLLIN);
    send_queued();
}

void Connection::send_queued() noexcept {
    while (send_head_ != nullptr) {
        std::array<iovec, kSegmentsMax> segments;
        std::size_t count = 0;
        const auto add = [&](const std::byte* data, std::size_t size, std::uint32_t& skip) {
            const std::uint32_t skipped = std::min(skip, static_cast<std::uint32_t>(size));
            skip -= skipped;
            if (size > skipped) segments[count++] = {const_cast<std::byte*>(data) + skipped, size - skipped};
        };
        std::size_t bytes = 0;
        for (Call* call = send_head_; call != nullptr && count + 3 <= kSegmentsMax; call = call->next) {
            if (call != &step_ && call->sent == 0 && !protocol_.prepare(*call)) break;
            std::uint32_t skip = call->sent;
            bytes += total_size(*call) - skip;
            add(call->head.data(), call->head_size, skip);
            if (!call->carries_data()) continue;
            add(call->data, call->length, skip);
            add(xdr::kPadding.data(), padding(call->length), skip);
        }
        if (count == 0) return watch(EPOLLIN);  // what waits, waits for a reply
        msghdr message{};
        message.msg_iov = segments.data();
        message.msg_iovlen = count;
        const ssize_t sent = ::sendmsg(fd_.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) continue;
        if (sent < 0 && errno != EAGAIN) return lost(strerrordesc_np(errno));
        if (sent > 0) account_sent(static_cast<std::size_t>(sent));
        if (sent < 0 || static_cast<std::size_t>(sent) < bytes) break;  // the socket is full
    }
    watch(send_head_ == nullptr ? EPOLLIN : EPOLLIN | EPOLLOUT);
}

void Connection::account_sent(std::size_t bytes) noexcept {
    while (bytes > 0) {
        Call& call = *send_head_;
        const auto part =
            static_cast<std::uint32_t>(std::min<std::size_t>(bytes, total_size(call) - call.sent));
        call.sent += part;
        bytes -= part;
        if (call.sent < total_size(call)) return;
        send_head_ = call.next;
        if (send_head_ == nullptr) send_tail_ = nullptr;
        call.state = Call::State::kSent;
        call.sent_tick = tick_;
        if (!tick_timer_.armed()) loop_.arm(tick_timer_, io::Clock::now() + patience_.tick());
        receiver_.sent(call);
    }
}

}  // namespace farswap::nfs
