// The loop itself: set-up, one round, waking. Requests and watches have files of their own.
#include "io/loop.h"

#include <sys/eventfd.h>

#include <algorithm>

#include "base/assert.h"
#include "base/log.h"
#include "io/loop_state.h"

namespace farswap::io {

namespace {

constexpr unsigned kSubmissions = 512;
constexpr unsigned kCompletions = 4096;  // more are kept by the kernel (IORING_FEAT_NODROP)
constexpr std::chrono::seconds kTeardownLimit{5};

void drain_wake(Watch& watch, std::uint32_t) {
    std::uint64_t count = 0;
    [[maybe_unused]] auto got = ::read(watch.fd, &count, sizeof count);
}

}  // namespace

Loop::Loop(std::unique_ptr<State> state) : state_(std::move(state)) {}

Result<std::unique_ptr<Loop>> Loop::create(const LoopOptions& options) {
    FARSWAP_ASSERT(options.requests_max > 0 && options.watches_max > 0);
    auto state = std::make_unique<State>(options);
    if (Status made = state->ring.init(kSubmissions, kCompletions); !made)
        return std::unexpected(made.error());
    state->wake_fd = Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!state->wake_fd) return fail_errno(errno, "cannot create an eventfd");
    state->wake_watch = Watch{.fd = state->wake_fd.get(), .events = EPOLLIN, .ready = drain_wake};
    state->watches.add(state->wake_watch);
    return std::unique_ptr<Loop>(new Loop(std::move(state)));
}

Loop::~Loop() {
    // The memory of a request in the kernel is written to until the kernel answers, whoever owns it by then.
    State& s = *state_;
    s.requests.cancel_all();
    const Clock::time_point limit = Clock::now() + kTeardownLimit;
    while (s.requests.in_kernel() > 0 && Clock::now() < limit) {
        s.requests.flush();
        s.ring.submit_and_wait(std::chrono::milliseconds(10));
        for (unsigned left = s.ring.ready(); left > 0; --left) {
            const Completion completion = s.ring.reap();
            if (completion.kind == Kind::kRequest) s.requests.completed(completion.index, completion.result);
        }
    }
    if (s.requests.in_kernel() > 0)
        log::warning("{} requests are still in the kernel at the end of the loop", s.requests.in_kernel());
}

Status Loop::register_memory(std::span<std::byte> memory) {
    return state_->requests.register_memory(memory);
}
bool Loop::memory_registered() const noexcept {
    return state_->requests.memory_registered();
}
Status Loop::register_file(File& file) {
    return state_->requests.register_file(file);
}
void Loop::unregister_file(File& file) noexcept {
    state_->requests.unregister_file(file);
}

void Loop::submit(Request& request, File& file) noexcept {
    state_->requests.submit(request, file, Operation::Kind::kTransfer);
}
void Loop::submit_sync(Request& request, File& file) noexcept {
    state_->requests.submit(request, file, Operation::Kind::kSync);
}
void Loop::submit_allocate(Request& request, File& file) noexcept {
    state_->requests.submit(request, file, Operation::Kind::kAllocate);
}
void Loop::complete_later(Request& request, int result) noexcept {
    state_->requests.refuse(request, result);
}
void Loop::cancel(Request& request) noexcept {
    state_->requests.cancel(request, -ECANCELED);
}
std::uint32_t Loop::requests_in_flight() const noexcept {
    return state_->requests.accepted();
}

void Loop::add(Watch& watch) noexcept {
    state_->watches.add(watch);
}
void Loop::modify(Watch& watch, std::uint32_t events) noexcept {
    state_->watches.modify(watch, events);
}
void Loop::remove(Watch& watch) noexcept {
    state_->watches.remove(watch);
}

void Loop::arm(Timer& timer, Clock::time_point when) noexcept {
    state_->timers.arm(timer, when);
}
void Loop::cancel(Timer& timer) noexcept {
    state_->timers.cancel(timer);
}

int Loop::run_once(std::chrono::nanoseconds timeout) noexcept {
    State& s = *state_;
    FARSWAP_ASSERT(!s.running);
    s.running = true;

    s.requests.flush();
    s.watches.flush();
    if (s.requests.any_finished()) timeout = std::chrono::nanoseconds::zero();
    if (!s.timers.empty() && timeout > std::chrono::nanoseconds::zero())
        timeout = std::clamp<std::chrono::nanoseconds>(s.timers.earliest() - Clock::now(),
                                                       std::chrono::nanoseconds::zero(), timeout);
    s.ring.submit_and_wait(timeout);

    int callbacks = s.timers.empty() ? 0 : s.timers.fire_due(Clock::now());
    // Only what is here now: callbacks may cause more, and the round has to end.
    for (unsigned left = s.ring.ready(); left > 0; --left) {
        const Completion completion = s.ring.reap();
        if (completion.kind == Kind::kWatch)
            callbacks += s.watches.completed(completion.index, completion.result);
        else if (completion.kind == Kind::kRequest)
            s.requests.completed(completion.index, completion.result);
    }
    callbacks += s.requests.run_finished();
    s.running = false;
    return callbacks;
}

void Loop::wake() noexcept {
    const int saved_errno = errno;
    const std::uint64_t one = 1;
    [[maybe_unused]] auto written = ::write(state_->wake_fd.get(), &one, sizeof one);
    errno = saved_errno;
}

}  // namespace farswap::io
