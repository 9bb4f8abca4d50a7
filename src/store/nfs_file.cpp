// Requests on an NFS file: the window, splitting, deadlines and cancellation; see nfs_file.h.
#include "store/nfs_file.h"

#include <algorithm>
#include <cerrno>

#include "base/assert.h"
#include "base/log.h"
#include "store/nfs4_session.h"

namespace farswap::nfs {
namespace {

constexpr std::uint32_t kWaiting = 0xffffffffu;  // Request::index: not in a Transfer
constexpr std::uint64_t kNever = ~std::uint64_t{0};

std::uint64_t now_ns() {
    return static_cast<std::uint64_t>(std::chrono::nanoseconds(io::Clock::now().time_since_epoch()).count());
}

std::uint64_t deadline_after(std::chrono::milliseconds timeout) {
    if (timeout.count() <= 0) return kNever;
    return now_ns() + static_cast<std::uint64_t>(std::chrono::nanoseconds(timeout).count());
}

std::unique_ptr<Protocol> make_protocol(const ClaimedFile& file, const char* what) {
    const Credential& who = file.server.credential;
    if (file.server.version == 3) return std::make_unique<Protocol3>(who, file.file);
    return std::make_unique<Protocol4>(who, file.file, file.read_max, file.write_max,
                                       fmt::format("{} ({})", file.name, what));
}

/// -ESTALE means lost writes to a store's user; here it means that the file itself is gone.
int result_of(int error) {
    return error == -ESTALE ? -EIO : error;
}

}  // namespace

NfsFile::Lane::Lane(NfsFile& owner, const char* what, std::uint32_t max, std::uint32_t write_max)
    : file(owner),
      connections(
          owner.file_.server.connections, owner.loop_, owner.file_.address,
          [&] { return make_protocol(owner.file_, what); }, fmt::format("{} ({})", owner.file_.name, what),
          write_max, *this, owner.timing_.limits),
      transfer_max(max),
      transfers(std::size_t{kWindow} * connections.size()),
      window(kWindow * connections.size()) {
    for (Transfer& transfer : transfers) {
        transfer.lane = this;
        transfer.next_idle = std::exchange(idle, &transfer);
    }
}

/// A transfer that waits for nothing more; null when all are in use.
NfsFile::Transfer* NfsFile::Lane::acquire() noexcept {
    Transfer* const transfer = idle;
    if (transfer == nullptr) return nullptr;
    idle = transfer->next_idle;
    ++under_way;
    return transfer;
}

/// Whose request is its owner's again, and whose call is not its any more.
void NfsFile::Lane::release(Transfer& transfer) noexcept {
    transfer.call = nullptr;
    transfer.request = nullptr;
    transfer.next_idle = std::exchange(idle, &transfer);
    --under_way;
}

NfsFile::NfsFile(io::Loop& loop, ClaimedFile file, const NfsTiming& timing)
    : loop_(loop),
      file_(std::move(file)),
      timing_(timing),
      ours_at_(io::Clock::now()),
      reads_(*this, "reads", file_.read_max, 0),
      writes_(*this, "writes", file_.write_max, file_.write_max) {
    kick_timer_.owner = deadline_timer_.owner = beat_timer_.owner = this;
    kick_timer_.fire = [](io::Timer& timer) { static_cast<NfsFile*>(timer.owner)->on_kick(); };
    deadline_timer_.fire = [](io::Timer& timer) { static_cast<NfsFile*>(timer.owner)->on_deadline(); };
    beat_timer_.fire = [](io::Timer& timer) { static_cast<NfsFile*>(timer.owner)->on_beat(); };
    loop_.arm(beat_timer_, io::Clock::now() + timing_.beat);
}

NfsFile::~NfsFile() {
    close();
    loop_.cancel(kick_timer_);
    loop_.cancel(deadline_timer_);
    loop_.cancel(beat_timer_);
}

std::uint32_t NfsFile::transfer_max() const noexcept {
    return std::min(file_.read_max, file_.write_max);
}

Store::Counters NfsFile::counters() const noexcept {
    Counters counters = counters_;
    Connection::Counters both = reads_.connections.counters();
    both += writes_.connections.counters();
    counters.retries = both.resent;
    counters.reconnects = both.reconnects;
    counters.bytes_copied = both.copied;
    return counters;
}

// ---- requests

int NfsFile::check(const Request& request) const noexcept {
    if (const int error = validate(request); error != 0) return error;
    const std::uint64_t limit = (request.op & WRITE) != 0 ? file_.reserved : file_.capacity;
    if (request.offset > limit || request.length > limit - request.offset) return -EINVAL;
    return lost_;
}

void NfsFile::submit(Request& request) noexcept {
    FARSWAP_ASSERT(request.complete != nullptr);
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
void NfsFile::dispatch(Lane& lane) noexcept {
    List<Request> held;
    while (Request* const request = lost_ == 0 ? lane.waiting.head : nullptr) {
        const std::uint64_t offset = kLeaseSize + request->offset;
        if (lane.connections.abandoned_write_overlaps(offset, request->length)) {
            held.push(*lane.waiting.pop());
            continue;
        }
        if (lane.under_way >= lane.window.limit()) break;
        Call* const call = lane.connections.take(false);
        if (call == nullptr) break;
        start(lane, *lane.waiting.pop(), *call);
    }
    if (held.head == nullptr) return;
    while (Request* const request = lane.waiting.pop()) held.push(*request);
    lane.waiting = held;
}

void NfsFile::start(Lane& lane, Request& request, Call& call) noexcept {
    Transfer* const transfer = lane.acquire();
    FARSWAP_ASSERT(transfer != nullptr);  // as many as there are calls
    transfer->request = &request;
    transfer->call = &call;
    transfer->unstable = {};
    request.index = static_cast<std::uint32_t>(transfer - lane.transfers.data());
    call.owner = transfer;
    call.complete = [](Call& answered) {
        auto& its = *static_cast<Transfer*>(answered.owner);
        its.lane->file.on_transfer(its);
    };
    send_rest(*transfer);
}

void NfsFile::send_rest(Transfer& transfer) noexcept {
    const Request& request = *transfer.request;
    Call& call = *transfer.call;
    const bool write = (request.op & WRITE) != 0;
    call.procedure = write ? Procedure::kWrite : Procedure::kRead;
    call.offset = kLeaseSize + request.offset + request.done;
    call.data = request.data + request.done;
    call.length = std::min(request.length - request.done, transfer.lane->transfer_max);
    transfer.sent = io::Clock::now();
    ++(write ? counters_.writes : counters_.reads);
    transfer.lane->connections.submit(call);
}

void NfsFile::on_transfer(Transfer& transfer) noexcept {
    Request& request = *transfer.request;
    const Call& call = *transfer.call;
    const Reply& reply = call.reply;
    const auto now = io::Clock::now();
    Lane& lane = *transfer.lane;
    lane.window.answered(now - transfer.sent, lane.under_way >= lane.window.limit(), now);
    if (reply.error == -ESTALE) lose_lease("the file is gone from the server");
    if (reply.error != 0) return end(transfer, result_of(reply.error));
    // Nothing moved, or more than asked: a file that was cut short, or a server that cannot be trusted.
    if (reply.count == 0 || reply.count > call.length) return end(transfer, -EIO);
    const bool write = call.procedure == Procedure::kWrite;
    if (write && !reply.durable) transfer.unstable.add(reply.verifier);
    (write ? counters_.bytes_written : counters_.bytes_read) += reply.count;
    request.done += reply.count;
    if (request.done < request.length) return lost_ == 0 ? send_rest(transfer) : end(transfer, lost_);
    unstable_.add(transfer.unstable);
    end(transfer, static_cast<int>(request.length));
}

/// Frees what the request held and completes it.
void NfsFile::end(Transfer& transfer, int result) noexcept {
    Request& request = *transfer.request;
    Lane& lane = *transfer.lane;
    if (transfer.call != nullptr) lane.connections.release(*transfer.call);
    lane.release(transfer);
    request.complete(request, result);
    dispatch(lane);
}

void NfsFile::cancel(Request& request) noexcept {
    Lane& lane = lane_of(request);
    if (request.index == kWaiting) {
        List<Request> found;
        lane.waiting.move_if(found, [&](const Request& item) { return &item == &request; });
        if (found.head != nullptr) finish_later(request, -ECANCELED);
        return;
    }
    if (request.index >= lane.transfers.size()) return;
    Transfer& transfer = lane.transfers[request.index];
    // A write that the server has is better waited for: given up, its outcome would be unknown.
    if (transfer.request != &request || &lane == &writes_) return;
    lane.connections.abandon(*transfer.call);
    lane.release(transfer);
    finish_later(request, -ECANCELED);
}

void NfsFile::Lane::write_in_doubt(std::uint64_t offset, std::uint32_t length) noexcept {
    const auto now = io::Clock::now();
    file.doubts_.expire(now);
    // To the second, so that what was lost together is kept together.
    file.doubts_.add(offset, length, std::chrono::ceil<std::chrono::seconds>(now + kLateWriteMax));
}

bool NfsFile::in_doubt(std::uint64_t offset, std::uint64_t length) const noexcept {
    offset += kLeaseSize;
    if (writes_.connections.abandoned_write_overlaps(offset, length)) return true;
    return !doubts_.empty() && doubts_.overlap(offset, length, io::Clock::now());
}

// ---- what must not run inside a call of the caller's

void NfsFile::finish_later(Request& request, int result) noexcept {
    request.index = kWaiting;
    request.done = static_cast<std::uint32_t>(result);
    finished_.push(request);
    kick();
}

void NfsFile::finish_later(FlushRequest& flush, int result) noexcept {
    flush.cookie = static_cast<std::uint64_t>(result);
    flushed_.push(flush);
    kick();
}

void NfsFile::kick() noexcept {
    loop_.arm(kick_timer_, io::Clock::now());
}

void NfsFile::on_kick() noexcept {
    // Only what is there now: callbacks may add more, which is for the next round.
    List<Request> requests = std::exchange(finished_, {});
    List<FlushRequest> flushes = std::exchange(flushed_, {});
    while (Request* request = requests.pop()) request->complete(*request, static_cast<int>(request->done));
    while (FlushRequest* flush = flushes.pop()) flush->complete(*flush, static_cast<int>(flush->cookie));
    if (lost_ != 0) {
        give_up(kNever, lost_);
        while (ReserveRequest* reserve = reserves_.pop()) reserve->complete(*reserve, lost_);
    }
    dispatch(reads_);
    dispatch(writes_);
    start_flush();
    advance_reserve();
}

// ---- deadlines

void NfsFile::note_deadline(std::uint64_t deadline_ns) noexcept {
    if (deadline_ns >= deadline_ns_) return;
    deadline_ns_ = deadline_ns;
    loop_.arm(deadline_timer_, io::Clock::time_point(std::chrono::nanoseconds(deadline_ns)));
}

void NfsFile::on_deadline() noexcept {
    give_up(now_ns(), -ETIMEDOUT);
    dispatch(reads_);
    dispatch(writes_);
}

/// Ends the requests and flushes that are due then or earlier. What was sent of them is not sent again, but
/// the server may still execute it.
void NfsFile::give_up(std::uint64_t due_ns, int result) noexcept {
    List<Request> expired;
    List<FlushRequest> flushes;
    for (Lane* lane : {&reads_, &writes_}) {
        lane->waiting.move_if(expired, [&](const Request& request) { return request.cookie <= due_ns; });
        for (Transfer& transfer : lane->transfers) {
            if (transfer.request == nullptr || transfer.request->cookie > due_ns) continue;
            lane->connections.abandon(*transfer.call);
            if (result == -ETIMEDOUT) lane->window.refused(io::Clock::now());
            expired.push(*transfer.request);
            lane->release(transfer);
        }
    }
    for (List<FlushRequest>* list : {&flushes_active_, &flushes_waiting_}) {
        list->move_if(flushes, [&](const FlushRequest& flush) { return flush.cookie <= due_ns; });
    }
    arm_next_deadline();
    while (Request* request = expired.pop()) {
        request->index = kWaiting;
        request->complete(*request, result);
    }
    while (FlushRequest* flush = flushes.pop()) flush->complete(*flush, result);
}

void NfsFile::arm_next_deadline() noexcept {
    deadline_ns_ = kNever;
    std::uint64_t earliest = kNever;
    for (const Lane* lane : {&reads_, &writes_}) {
        for (const Request* at = lane->waiting.head; at != nullptr; at = at->next)
            earliest = std::min(earliest, at->cookie);
        for (const Transfer& transfer : lane->transfers) {
            if (transfer.request != nullptr) earliest = std::min(earliest, transfer.request->cookie);
        }
    }
    for (const List<FlushRequest>* list : {&flushes_active_, &flushes_waiting_}) {
        for (const FlushRequest* at = list->head; at != nullptr; at = at->next)
            earliest = std::min(earliest, at->cookie);
    }
    note_deadline(earliest);
}

}  // namespace farswap::nfs
