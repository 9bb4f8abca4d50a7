// See epoll_engine.h. Source of the error codes: epoll_ctl(2).
#include "io/epoll_engine.h"

#include <algorithm>
#include <limits>

#include "base/assert.h"

namespace farswap::io {

namespace {

using std::chrono::nanoseconds;

constexpr std::size_t kEventsMax = 512;  // of one round; the kernel begins the next one where this ends
constexpr std::uint32_t kWorkers = 0xffffffffu;  // the place of the workers' descriptor, which is no watch's

std::uint64_t tag(std::uint32_t index, std::uint32_t generation) noexcept {
    return std::uint64_t{generation} << 32 | index;
}

int wait_in_ms(int epoll, epoll_event* events, int count, nanoseconds timeout) noexcept {
    constexpr std::int64_t kMost = std::numeric_limits<int>::max();
    const auto ms =
        std::chrono::ceil<std::chrono::milliseconds>(std::min(timeout, nanoseconds::max() / 2)).count();
    return ::epoll_wait(
        epoll, events, count,
        timeout == nanoseconds::max() ? -1 : static_cast<int>(std::min<std::int64_t>(ms, kMost)));
}

}  // namespace

EpollEngine::EpollEngine(const LoopOptions& options)
    : table_(options.watches_max + 1), events_(kEventsMax), workers_(options.requests_max) {
    free_.reserve(table_.size());
    for (auto index = static_cast<std::uint32_t>(table_.size()); index > 0; --index)
        free_.push_back(index - 1);
}

Result<std::unique_ptr<Engine>> EpollEngine::make(const LoopOptions& options) {
    std::unique_ptr<EpollEngine> engine(new EpollEngine(options));
    engine->epoll_ = Fd(::epoll_create1(EPOLL_CLOEXEC));
    if (!engine->epoll_) return fail_errno(errno, "cannot create an epoll instance");
    if (Status started = engine->workers_.start(options.workers_nice); !started)
        return std::unexpected(started.error());
    epoll_event event{.events = EPOLLIN, .data = {.u64 = tag(kWorkers, 0)}};
    if (::epoll_ctl(engine->epoll_.get(), EPOLL_CTL_ADD, engine->workers_.fd(), &event) < 0)
        return fail_errno(errno, "cannot watch an eventfd");
    return engine;
}

// --- File operations
// ------------------------------------------------------------------------------------------

bool EpollEngine::begin(std::uint32_t index, const FileOperation& operation) noexcept {
    workers_.begin(index, operation);
    return true;
}

bool EpollEngine::cancel(std::uint32_t index) noexcept {
    workers_.cancel(index);
    return true;
}

// --- Watches
// --------------------------------------------------------------------------------------------------

void EpollEngine::add(Watch& watch) noexcept {
    FARSWAP_ASSERT(!watch.added && watch.ready != nullptr);
    FARSWAP_ASSERT(!free_.empty());
    watch.index = free_.back();
    watch.added = true;
    free_.pop_back();
    Entry& entry = table_[watch.index];
    entry.watch = &watch;
    ++entry.generation;
    set(watch, EPOLL_CTL_ADD);
}

void EpollEngine::modify(Watch& watch, std::uint32_t events) noexcept {
    FARSWAP_ASSERT(watch.added && table_[watch.index].watch == &watch);
    if (watch.events == events) return;
    watch.events = events;
    if (table_[watch.index].constant == 0) set(watch, EPOLL_CTL_MOD);
}

/// At once and not in the next round: by then the number may be another file's.
void EpollEngine::remove(Watch& watch) noexcept {
    if (!watch.added) return;
    Entry& entry = table_[watch.index];
    FARSWAP_ASSERT(entry.watch == &watch);
    // Fails for a descriptor that was closed before, which the kernel has forgotten by itself.
    if (entry.constant == 0) ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, watch.fd, nullptr);
    set_constant(entry, 0);
    entry.watch = nullptr;
    watch.added = false;
    free_.push_back(watch.index);
}

void EpollEngine::set(Watch& watch, int operation) noexcept {
    Entry& entry = table_[watch.index];
    epoll_event event{.events = watch.events, .data = {.u64 = tag(watch.index, entry.generation)}};
    if (::epoll_ctl(epoll_.get(), operation, watch.fd, &event) == 0) return;
    FARSWAP_ASSERT(errno != EEXIST);  // one watch a descriptor
    // Regular files are always ready (EPERM), as poll(2) has it; all else is an error of the descriptor.
    set_constant(entry, errno == EPERM ? EPOLLIN | EPOLLOUT : EPOLLERR);
}

void EpollEngine::set_constant(Entry& entry, std::uint32_t events) noexcept {
    if (entry.constant == 0 && events != 0) ++constant_;
    if (entry.constant != 0 && events == 0) --constant_;
    entry.constant = events;
}

/// Returns whether a callback was run.
bool EpollEngine::call(Entry& entry, std::uint32_t events) noexcept {
    events &= entry.watch->events | Watch::kAlwaysReported;
    if (events == 0) return false;
    entry.watch->ready(*entry.watch, events);
    return true;
}

int EpollEngine::call_constant() noexcept {
    if (constant_ == 0) return 0;
    int called = 0;
    for (Entry& entry : table_)
        if (entry.watch != nullptr && entry.constant != 0) called += call(entry, entry.constant);
    return called;
}

// --- Rounds
// ---------------------------------------------------------------------------------------------------

void EpollEngine::wait(nanoseconds timeout) noexcept {
    if (constant_ != 0) timeout = nanoseconds::zero();
    const int count = static_cast<int>(events_.size());
    int found = -1;
    if (waits_in_ns_) {
        const timespec limit{.tv_sec = timeout.count() / 1'000'000'000,
                             .tv_nsec = timeout.count() % 1'000'000'000};
        found = ::epoll_pwait2(epoll_.get(), events_.data(), count,
                               timeout == nanoseconds::max() ? nullptr : &limit, nullptr);
        // Newer than some seccomp profiles (Linux 5.11).
        if (found < 0 && (errno == ENOSYS || errno == EPERM)) waits_in_ns_ = false;
    }
    if (!waits_in_ns_) found = wait_in_ms(epoll_.get(), events_.data(), count, timeout);
    found_ = found > 0 ? static_cast<std::uint32_t>(found) : 0;  // EINTR: the wait is over
}

bool EpollEngine::has_news() noexcept {
    wait(nanoseconds::zero());
    return found_ > 0 || constant_ != 0;
}

int EpollEngine::collect(Listener& listener) noexcept {
    int called = 0;
    for (std::uint32_t at = 0; at < found_; ++at) {
        const epoll_event& event = events_[at];
        const auto index = static_cast<std::uint32_t>(event.data.u64);
        if (index == kWorkers) {
            workers_.tell(listener);
            continue;
        }
        Entry& entry = table_[index];
        // A callback of this round may have removed it, and given its place to another.
        if (entry.watch != nullptr && entry.generation == event.data.u64 >> 32)
            called += call(entry, event.events);
    }
    found_ = 0;
    return called + call_constant();
}

void EpollEngine::drain(Listener& listener, nanoseconds timeout) noexcept {
    workers_.wait(std::chrono::ceil<std::chrono::milliseconds>(timeout));
    workers_.tell(listener);
}

}  // namespace farswap::io
