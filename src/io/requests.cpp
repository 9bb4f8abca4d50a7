// File requests of a loop: table, queue, deadlines, short transfers. See loop_state.h.
#include <algorithm>

#include "base/assert.h"
#include "io/loop_state.h"

namespace farswap::io {

namespace {

using std::chrono::milliseconds;

constexpr std::uint32_t kTransferMax = 0x7ffff000;  // of one read(2) or write(2); a result is an int

// Request::index of a request that has no place in the table. A waiting one keeps its File in `cookie` and
// its deadline in `done`, a finished one its result in `done`.
constexpr std::uint32_t kIdle = 0xffffffffu;
constexpr std::uint32_t kFinished = 0xfffffffeu;
constexpr std::uint32_t kWaiting = 0xfffffff0u;  // + Operation::Kind

bool is_waiting(const Request& request) noexcept {
    return request.index >= kWaiting && request.index < kFinished;
}

// Deadlines of waiting requests in 32 bits: milliseconds modulo 2^32 (49 days), compared by difference. 0 is
// none.
std::uint32_t to_stamp(Clock::time_point when) noexcept {
    const auto ms = std::chrono::ceil<milliseconds>(when.time_since_epoch()).count();
    return static_cast<std::uint32_t>(ms) | 1;
}
milliseconds until(std::uint32_t stamp, Clock::time_point now) noexcept {
    const auto now_ms =
        static_cast<std::uint32_t>(std::chrono::floor<milliseconds>(now.time_since_epoch()).count());
    return milliseconds(static_cast<std::int32_t>(stamp - now_ms));
}

}  // namespace

void Requests::List::push(Request& request) noexcept {
    request.next = nullptr;
    (tail ? tail->next : head) = &request;
    tail = &request;
}

Request* Requests::List::pop() noexcept {
    Request* first = head;
    if (first == nullptr) return nullptr;
    head = first->next;
    if (head == nullptr) tail = nullptr;
    first->next = nullptr;
    return first;
}

bool Requests::List::remove(Request& request) noexcept {
    Request* before = nullptr;
    for (Request* at = head; at != nullptr; before = at, at = at->next) {
        if (at != &request) continue;
        (before ? before->next : head) = at->next;
        if (tail == at) tail = before;
        at->next = nullptr;
        return true;
    }
    return false;
}

Requests::Requests(std::uint32_t requests_max, Engine& engine, TimerHeap& timers)
    : engine_(engine),
      timers_(timers),
      table_(requests_max),
      to_submit_(requests_max),
      to_cancel_(requests_max) {
    free_.reserve(requests_max);
    for (std::uint32_t index = requests_max; index > 0; --index) free_.push_back(index - 1);
    for (Operation& operation : table_) {
        operation.table = this;
        operation.deadline.owner = &operation;
        operation.deadline.fire = [](Timer& timer) {
            auto& late = *static_cast<Operation*>(timer.owner);
            late.table->abort(late, -ETIMEDOUT);
        };
    }
    waiting_deadline_.owner = this;
    waiting_deadline_.fire = [](Timer& timer) { static_cast<Requests*>(timer.owner)->expire_waiting(); };
}

// --- Acceptance
// -----------------------------------------------------------------------------------------------

void Requests::submit(Request& request, File& file, Operation::Kind kind) noexcept {
    FARSWAP_ASSERT(request.complete != nullptr);
    ++accepted_;
    if (kind == Operation::Kind::kTransfer) {
        if (const int error = validate(request); error != 0) return finish(request, error);
        if (request.length > kTransferMax) return finish(request, -EINVAL);
    }
    if (free_.empty())
        wait_for_place(request, file, kind);
    else
        start(request, file, kind, request.timeout);
}

void Requests::refuse(Request& request, int result) noexcept {
    FARSWAP_ASSERT(request.complete != nullptr);
    ++accepted_;
    finish(request, result);
}

void Requests::start(Request& request, File& file, Operation::Kind kind, milliseconds left) noexcept {
    Operation& operation = table_[free_.back()];
    request.index = free_.back();
    free_.pop_back();
    request.done = 0;
    operation.request = &request;
    operation.file = &file;
    operation.kind = kind;
    operation.abort = 0;
    if (request.timeout > milliseconds::zero()) timers_.arm(operation.deadline, Clock::now() + left);
    to_submit_.push(request.index);
}

void Requests::wait_for_place(Request& request, File& file, Operation::Kind kind) noexcept {
    request.index = kWaiting + static_cast<std::uint32_t>(kind);
    request.cookie = reinterpret_cast<std::uintptr_t>(&file);
    request.done = 0;
    if (request.timeout > milliseconds::zero()) {
        const Clock::time_point due = Clock::now() + request.timeout;
        request.done = to_stamp(due);
        if (!waiting_deadline_.armed() || due < waiting_deadline_.when) timers_.arm(waiting_deadline_, due);
    }
    waiting_.push(request);
}

void Requests::start_waiting() noexcept {
    while (waiting_.head != nullptr && !free_.empty()) {
        Request& request = *waiting_.pop();
        const auto kind = static_cast<Operation::Kind>(request.index - kWaiting);
        auto& file = *reinterpret_cast<File*>(static_cast<std::uintptr_t>(request.cookie));
        start(request, file, kind,
              request.done == 0 ? milliseconds::zero() : until(request.done, Clock::now()));
    }
}

/// Ends the waiting requests whose deadline has passed, and arms the timer for the next one.
void Requests::expire_waiting() noexcept {
    const Clock::time_point now = Clock::now();
    auto next = milliseconds::max();
    for (Request *at = waiting_.head, *after = nullptr; at != nullptr; at = after) {
        after = at->next;
        if (at->done == 0) continue;
        const milliseconds left = until(at->done, now);
        if (left > milliseconds::zero()) {
            next = std::min(next, left);
            continue;
        }
        waiting_.remove(*at);
        finish(*at, -ETIMEDOUT);
    }
    if (next != milliseconds::max()) timers_.arm(waiting_deadline_, now + next);
}

// --- Early end
// ------------------------------------------------------------------------------------------------

void Requests::cancel(Request& request, int reason) noexcept {
    if (request.index < table_.size()) {
        Operation& operation = table_[request.index];
        if (operation.request == &request) abort(operation, reason);
    } else if (is_waiting(request) && waiting_.remove(request)) {
        finish(request, reason);
    }
}

void Requests::abort(Operation& operation, int reason) noexcept {
    if (operation.abort == 0) operation.abort = reason;
    // What is not in the engine is on its way there, and ends when flush() comes to it.
    if (operation.in_engine) to_cancel_.push(index_of(operation));
}

void Requests::cancel_all() noexcept {
    for (Operation& operation : table_)
        if (operation.request != nullptr) abort(operation, -ECANCELED);
}

// --- Into the engine
// ------------------------------------------------------------------------------------------

void Requests::flush() noexcept {
    start_waiting();
    for (; !to_submit_.empty(); to_submit_.pop())
        if (!enter(table_[to_submit_.front()])) return;
    for (; !to_cancel_.empty(); to_cancel_.pop()) {
        const Operation& operation = table_[to_cancel_.front()];
        // It may have ended, and its place may serve another request by now.
        if (operation.request == nullptr || operation.abort == 0 || !operation.in_engine) continue;
        if (!engine_.cancel(index_of(operation))) return;
    }
}

bool Requests::enter(Operation& operation) noexcept {
    if (operation.abort != 0) {
        finish_operation(operation, operation.abort);
        return true;
    }
    const Request& request = *operation.request;
    // What a short transfer has done is left out; `done` of the others is 0.
    FileOperation step{.file = operation.file,
                       .offset = operation.file->base + request.offset + request.done,
                       .length = request.length - request.done};
    switch (operation.kind) {
        case Operation::Kind::kTransfer:
            step.kind = (request.op & WRITE) != 0 ? FileOperation::Kind::kWrite : FileOperation::Kind::kRead;
            step.data = request.data + request.done;
            break;
        case Operation::Kind::kSync:
            step.kind = FileOperation::Kind::kSync;
            break;
        case Operation::Kind::kAllocate:
            step.kind = FileOperation::Kind::kAllocate;
            break;
    }
    if (!engine_.begin(index_of(operation), step)) return false;
    operation.in_engine = true;
    ++in_engine_;
    return true;
}

// --- Out of the engine
// ----------------------------------------------------------------------------------------

void Requests::ended(std::uint32_t index, int result) noexcept {
    FARSWAP_ASSERT(index < table_.size());
    Operation& operation = table_[index];
    FARSWAP_ASSERT(operation.request != nullptr && operation.in_engine);
    operation.in_engine = false;
    --in_engine_;
    Request& request = *operation.request;

    if (result == -EINTR || result == -EAGAIN || result == -ECANCELED) {
        if (operation.abort != 0) return finish_operation(operation, operation.abort);
        // Cancelled, and not by us: the thread that had asked for it has died (LoopOptions::outlives_its_thread).
        return to_submit_.push(index);
    }
    if (result < 0 || operation.kind != Operation::Kind::kTransfer)
        return finish_operation(operation, result);
    // Nothing moved: the end of the file lies inside the request.
    if (result == 0) return finish_operation(operation, -EIO);
    FARSWAP_ASSERT(static_cast<std::uint32_t>(result) <= request.length - request.done);
    request.done += static_cast<std::uint32_t>(result);
    if (request.done == request.length) return finish_operation(operation, static_cast<int>(request.length));
    if (operation.abort != 0) return finish_operation(operation, operation.abort);
    to_submit_.push(index);
}

void Requests::finish_operation(Operation& operation, int result) noexcept {
    Request& request = *operation.request;
    timers_.cancel(operation.deadline);
    operation.request = nullptr;
    operation.file = nullptr;
    free_.push_back(index_of(operation));
    finish(request, result);
}

void Requests::finish(Request& request, int result) noexcept {
    request.index = kFinished;
    request.done = static_cast<std::uint32_t>(result);
    finished_.push(request);
}

int Requests::run_finished() noexcept {
    List due = std::exchange(finished_, List{});
    int count = 0;
    for (; Request* request = due.pop(); ++count) {
        request->index = kIdle;
        --accepted_;
        request->complete(*request, static_cast<int>(request->done));
    }
    return count;
}

}  // namespace farswap::io
