// Requests on an NBD export: the window, splitting, deadlines and cancellation; see nbd_store.h.
#include "store/nbd_store.h"

#include <algorithm>
#include <cerrno>

#include "base/assert.h"

namespace farswap::nbd {
namespace {

constexpr std::uint32_t kWaiting = 0xffffffffu;  // Request::index: not in a Transfer
constexpr std::uint64_t kNever = ~std::uint64_t{0};
constexpr std::uint32_t kTransferMax = 1u
                                       << 20;  // bytes; a larger command gains nothing and delays the others

std::uint64_t now_ns() {
    return static_cast<std::uint64_t>(std::chrono::nanoseconds(io::Clock::now().time_since_epoch()).count());
}

std::uint64_t deadline_after(std::chrono::milliseconds timeout) {
    if (timeout.count() <= 0) return kNever;
    return now_ns() + static_cast<std::uint64_t>(std::chrono::nanoseconds(timeout).count());
}

/// -ESTALE has a meaning of its own here, and no server's errno may pass for it.
int result_of(int error) {
    return error == -ESTALE ? -EIO : error;
}

}  // namespace

NbdStore::NbdStore(io::Loop& loop, ClaimedExport claimed, const LeaseTiming& timing,
                   std::chrono::milliseconds silence_max)
    : loop_(loop),
      name_(std::move(claimed.name)),
      endpoints_(std::move(claimed.endpoints)),
      geometry_(claimed.geometry),
      capacity_(claimed.capacity),
      transfer_max_(
          std::min(kTransferMax, geometry_.transfer_max / geometry_.block_min * geometry_.block_min)),
      timing_(timing),
      lease_(claimed.lease),
      ours_at_(io::Clock::now()),
      write_connection_(loop, endpoints_, std::move(claimed.writes), geometry_, name_, *this, silence_max) {
    if (claimed.reads) {
        Connection::Watcher& watcher = *this;
        read_connection_ = std::make_unique<Connection>(loop, endpoints_, std::move(claimed.reads), geometry_,
                                                        name_ + " (reads)", watcher, silence_max);
    }
    writes_.connection = &write_connection_;
    reads_.connection = shared() ? &write_connection_ : read_connection_.get();
    for (Lane* lane : {&reads_, &writes_}) {
        lane->store = this;
        for (Transfer& transfer : lane->transfers) transfer.lane = lane;
    }
    write_check_.connection = beat_.connection = &write_connection_;
    read_check_.connection = read_connection_.get();
    for (LeaseLook* look : {&beat_, &write_check_, &read_check_}) {
        look->store = this;
        look->block = std::make_unique<std::byte[]>(kLeaseSize);
    }
    kick_timer_.owner = deadline_timer_.owner = beat_timer_.owner = late_timer_.owner = this;
    kick_timer_.fire = [](io::Timer& timer) { static_cast<NbdStore*>(timer.owner)->on_kick(); };
    late_timer_.fire = kick_timer_.fire;
    deadline_timer_.fire = [](io::Timer& timer) { static_cast<NbdStore*>(timer.owner)->on_deadline(); };
    beat_timer_.fire = [](io::Timer& timer) { static_cast<NbdStore*>(timer.owner)->on_beat(); };
    loop_.arm(beat_timer_, io::Clock::now() + timing_.beat);
}

NbdStore::~NbdStore() {
    close();
    for (io::Timer* timer : {&kick_timer_, &deadline_timer_, &beat_timer_, &late_timer_})
        loop_.cancel(*timer);
}

Store::Counters NbdStore::counters() const noexcept {
    Counters counters = counters_;
    for (const Connection* connection :
         {&write_connection_, static_cast<const Connection*>(read_connection_.get())}) {
        if (connection == nullptr) continue;
        counters.retries += connection->counters().resent;
        counters.reconnects += connection->counters().reconnects;
    }
    return counters;
}

// ---- requests

int NbdStore::check(const Request& request) const noexcept {
    if (const int error = validate(request); error != 0) return error;
    if (request.offset > capacity_ || request.length > capacity_ - request.offset) return -EINVAL;
    if ((request.offset | request.length) % geometry_.block_min != 0) return -EINVAL;
    return lost_;
}

void NbdStore::submit(Request& request) noexcept {
    FARSWAP_ASSERT(request.complete != nullptr && !closed_);
    if (const int error = check(request); error != 0) return finish_later(request, error);
    request.done = 0;
    request.index = kWaiting;
    request.cookie = deadline_after(request.timeout);
    note_deadline(request.cookie);
    Lane& lane = lane_of(request);
    lane.waiting.push(request);
    dispatch(lane);
}

/// Sends waiting requests while the window has room. One that has to wait for an older write lets others
/// pass.
void NbdStore::dispatch(Lane& lane) noexcept {
    RequestList<Request> held;
    const auto now = io::Clock::now();
    while (lost_ == 0 && lane.waiting.head != nullptr) {
        if (blocked(*lane.waiting.head, now)) {
            held.push(*lane.waiting.pop());
            continue;
        }
        Call* const call = lane.connection->take(false);
        if (call == nullptr) break;
        start(lane, *lane.waiting.pop(), *call);
    }
    while (Request* request = lane.waiting.pop()) held.push(*request);
    lane.waiting = held;
}

/// Whether other bytes are on their way to the place, over a connection that was lost.
bool NbdStore::blocked(const Request& request, io::Clock::time_point now) noexcept {
    if ((request.op & WRITE) == 0) return false;
    auto until = now;
    for (std::uint32_t at = 0; at < request.length; at += transfer_max_) {
        const std::uint32_t length = std::min(transfer_max_, request.length - at);
        until = std::max(
            until, late_.blocked_until(kLeaseSize + request.offset + at, {request.data + at, length}, now));
    }
    if (until <= now) return false;
    if (!late_timer_.armed() || until < late_timer_.when) loop_.arm(late_timer_, until);
    return true;
}

void NbdStore::start(Lane& lane, Request& request, Call& call) noexcept {
    const auto transfer = std::ranges::find(lane.transfers, nullptr, &Transfer::request);
    FARSWAP_ASSERT(transfer != lane.transfers.end());
    transfer->request = &request;
    transfer->call = &call;
    request.index = static_cast<std::uint32_t>(transfer - lane.transfers.begin());
    call.owner = &*transfer;
    call.complete = [](Call& answered, int error) {
        auto& its = *static_cast<Transfer*>(answered.owner);
        its.lane->store->on_transfer(its, error);
    };
    send_rest(*transfer);
}

void NbdStore::send_rest(Transfer& transfer) noexcept {
    const Request& request = *transfer.request;
    Call& call = *transfer.call;
    const bool write = (request.op & WRITE) != 0;
    call.kind = write ? Call::Kind::kWrite : Call::Kind::kRead;
    call.offset = kLeaseSize + request.offset + request.done;
    call.data = request.data + request.done;
    call.length = std::min(request.length - request.done, transfer_max_);
    ++(write ? counters_.writes : counters_.reads);
    transfer.lane->connection->submit(call);
}

void NbdStore::on_transfer(Transfer& transfer, int error) noexcept {
    Request& request = *transfer.request;
    const bool write = (request.op & WRITE) != 0;
    if (error != 0) return end(transfer, result_of(error));
    (write ? counters_.bytes_written : counters_.bytes_read) += transfer.call->length;
    // Also while a flush is under way: it may have reached the server before this write was done.
    if (write) unflushed_ = true;
    request.done += transfer.call->length;
    if (request.done < request.length) return lost_ == 0 ? send_rest(transfer) : end(transfer, lost_);
    end(transfer, static_cast<int>(request.length));
}

/// Frees what the request held and completes it.
void NbdStore::end(Transfer& transfer, int result) noexcept {
    Request& request = *transfer.request;
    Lane& lane = *transfer.lane;
    lane.connection->release(*transfer.call);
    transfer.call = nullptr;
    transfer.request = nullptr;
    request.index = kWaiting;
    request.complete(request, result);
    dispatch(reads_);
    dispatch(writes_);
}

void NbdStore::cancel(Request& request) noexcept {
    Lane& lane = lane_of(request);
    if (request.index == kWaiting) {
        RequestList<Request> found;
        lane.waiting.move_if(found, [&](const Request& item) { return &item == &request; });
        if (found.head != nullptr) finish_later(request, -ECANCELED);
        return;
    }
    if (request.index >= lane.transfers.size()) return;
    Transfer& transfer = lane.transfers[request.index];
    if (transfer.request != &request) return;
    // A read takes its connection along; where writes share it, that is too much for one read.
    const bool sent = lane.connection->sent(*transfer.call);
    if (sent && (&lane == &writes_ || shared())) return;
    lane.connection->abandon(*transfer.call);
    transfer.call = nullptr;
    transfer.request = nullptr;
    finish_later(request, -ECANCELED);
}

void NbdStore::reserve(ReserveRequest& reserve) noexcept {
    reserves_.push(reserve);
    kick();
}

void NbdStore::answer_reserves() noexcept {
    for (auto reserves = reserves_.take(); ReserveRequest* reserve = reserves.pop();) {
        const int result = lost_ != 0 ? lost_ : reserve->bytes > capacity_ ? -ENOSPC : 0;
        reserve->complete(*reserve, result);
    }
}

// ---- what must not run inside a call of the caller's

void NbdStore::finish_later(Request& request, int result) noexcept {
    request.index = kWaiting;
    request.done = static_cast<std::uint32_t>(result);
    finished_.push(request);
    kick();
}

void NbdStore::finish_later(FlushRequest& flush, int result) noexcept {
    flush.cookie = static_cast<std::uint64_t>(result);
    flushed_.push(flush);
    kick();
}

void NbdStore::kick() noexcept {
    loop_.arm(kick_timer_, io::Clock::now());
}

void NbdStore::on_kick() noexcept {
    // Only what is there now: callbacks may add more, which is for the next round.
    auto requests = finished_.take();
    auto flushes = flushed_.take();
    while (Request* request = requests.pop()) request->complete(*request, static_cast<int>(request->done));
    while (FlushRequest* flush = flushes.pop()) flush->complete(*flush, static_cast<int>(flush->cookie));
    if (lost_ != 0) give_up(kNever, lost_);
    answer_reserves();
    dispatch(reads_);
    dispatch(writes_);
    start_flush();
}

// ---- deadlines

void NbdStore::note_deadline(std::uint64_t deadline_ns) noexcept {
    if (deadline_ns >= deadline_ns_) return;
    deadline_ns_ = deadline_ns;
    loop_.arm(deadline_timer_, io::Clock::time_point(std::chrono::nanoseconds(deadline_ns)));
}

void NbdStore::on_deadline() noexcept {
    give_up(now_ns(), -ETIMEDOUT);
    dispatch(reads_);
    dispatch(writes_);
}

/// Ends the requests and flushes that are due then or earlier. What was sent of them is not sent again, but
/// the server may still execute it.
void NbdStore::give_up(std::uint64_t due_ns, int result) noexcept {
    RequestList<Request> expired;
    RequestList<FlushRequest> flushes;
    for (Lane* lane : {&reads_, &writes_}) {
        lane->waiting.move_if(expired, [&](const Request& request) { return request.cookie <= due_ns; });
        for (Transfer& transfer : lane->transfers) {
            if (transfer.request == nullptr || transfer.request->cookie > due_ns) continue;
            lane->connection->abandon(*transfer.call);
            transfer.call = nullptr;
            expired.push(*std::exchange(transfer.request, nullptr));
        }
    }
    for (RequestList<FlushRequest>* list : {&flushes_active_, &flushes_waiting_}) {
        list->move_if(flushes, [&](const FlushRequest& flush) { return flush.cookie <= due_ns; });
    }
    arm_next_deadline();
    while (Request* request = expired.pop()) {
        request->index = kWaiting;
        request->complete(*request, result);
    }
    while (FlushRequest* flush = flushes.pop()) flush->complete(*flush, result);
}

void NbdStore::arm_next_deadline() noexcept {
    deadline_ns_ = kNever;
    std::uint64_t earliest = kNever;
    for (const Lane* lane : {&reads_, &writes_}) {
        for (const Request* at = lane->waiting.head; at != nullptr; at = at->next)
            earliest = std::min(earliest, at->cookie);
        for (const Transfer& transfer : lane->transfers) {
            if (transfer.request != nullptr) earliest = std::min(earliest, transfer.request->cookie);
        }
    }
    for (const RequestList<FlushRequest>* list : {&flushes_active_, &flushes_waiting_}) {
        for (const FlushRequest* at = list->head; at != nullptr; at = at->next)
            earliest = std::min(earliest, at->cookie);
    }
    note_deadline(earliest);
}

}  // namespace farswap::nbd
