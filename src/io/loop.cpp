// The loop itself: set-up, one round, waking. What it asks of the kernel is its engine's business.
#include "io/loop.h"

#include <sched.h>
#include <sys/eventfd.h>

#include <algorithm>

#include "base/assert.h"
#include "base/log.h"
#include "io/loop_state.h"

namespace farswap::io {

namespace {

constexpr std::chrono::seconds kTeardownLimit{5};

void drain_wake(Watch& watch, std::uint32_t) {
    std::uint64_t count = 0;
    [[maybe_unused]] auto got = ::read(watch.fd, &count, sizeof count);
}

}  // namespace

Loop::Loop(std::unique_ptr<State> state) : state_(std::move(state)) {}

Result<std::unique_ptr<Loop>> Loop::create(const LoopOptions& options) {
    FARSWAP_ASSERT(options.requests_max > 0 && options.watches_max > 0);
    auto engine = make_engine(options);
    if (!engine) return std::unexpected(engine.error());
    auto state = std::make_unique<State>(options, std::move(*engine));
    state->wake_fd = Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!state->wake_fd) return fail_errno(errno, "cannot create an eventfd");
    state->wake_watch = Watch{.fd = state->wake_fd.get(), .events = EPOLLIN, .ready = drain_wake};
    state->engine->add(state->wake_watch);
    return std::unique_ptr<Loop>(new Loop(std::move(state)));
}

Loop::~Loop() {
    // The memory of a request in the kernel is written to until the kernel answers, whoever owns it by then.
    State& s = *state_;
    s.requests.cancel_all();
    const Clock::time_point limit = Clock::now() + kTeardownLimit;
    while (s.requests.in_engine() > 0 && Clock::now() < limit) {
        s.requests.flush();
        s.engine->drain(s.requests, std::chrono::milliseconds(10));
    }
    if (s.requests.in_engine() > 0)
        log::warning("{} requests are still in the kernel at the end of the loop", s.requests.in_engine());
}

EngineKind Loop::engine() const noexcept {
    return state_->engine->kind();
}

Status Loop::register_memory(std::span<std::byte> memory, std::size_t ready) {
    return state_->engine->register_memory(memory, ready);
}
bool Loop::memory_registered() const noexcept {
    return state_->engine->memory_registered();
}
Status Loop::register_file(File& file) {
    return state_->engine->register_file(file);
}
void Loop::unregister_file(File& file) noexcept {
    state_->engine->unregister_file(file);
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
    state_->engine->add(watch);
}
void Loop::modify(Watch& watch, std::uint32_t events) noexcept {
    state_->engine->modify(watch, events);
}
void Loop::remove(Watch& watch) noexcept {
    state_->engine->remove(watch);
}

void Loop::arm(Timer& timer, Clock::time_point when) noexcept {
    state_->timers.arm(timer, when);
}
void Loop::cancel(Timer& timer) noexcept {
    state_->timers.cancel(timer);
}

const Loop::Wait& Loop::last_wait() const noexcept {
    return state_->wait;
}

/// Whether something has happened before the limit.
bool Loop::spin(std::chrono::nanoseconds limit) noexcept {
    State& s = *state_;
    const Clock::time_point began = Clock::now();
    for (Clock::time_point now = began; now - began < limit;) {
        if (s.engine->has_news()) return true;
        // Nobody else may have to wait for a core because we have nothing to do on it: least of all the
        // thread that we have just woken.
        ::sched_yield();
        const Clock::time_point after = Clock::now();
        s.wait.longest_yield = std::max<std::chrono::nanoseconds>(s.wait.longest_yield, after - now);
        now = after;
    }
    return s.engine->has_news();
}

int Loop::run_once(std::chrono::nanoseconds timeout, std::chrono::nanoseconds spin_for) noexcept {
    State& s = *state_;
    FARSWAP_ASSERT(!s.running);
    s.running = true;

    s.requests.flush();
    if (s.requests.any_finished()) timeout = std::chrono::nanoseconds::zero();
    const Clock::time_point began = Clock::now();
    const auto limited = [&] {
        if (s.timers.empty() || timeout <= std::chrono::nanoseconds::zero()) return timeout;
        return std::clamp<std::chrono::nanoseconds>(s.timers.earliest() - Clock::now(),
                                                    std::chrono::nanoseconds::zero(), timeout);
    };
    s.wait.longest_yield = {};
    if (spin_for > std::chrono::nanoseconds::zero() && spin(std::min(spin_for, limited())))
        timeout = std::chrono::nanoseconds::zero();
    s.engine->wait(limited());
    const Clock::time_point now = Clock::now();
    s.wait.taken = now - began;

    int callbacks = s.timers.empty() ? 0 : s.timers.fire_due(now);
    callbacks += s.engine->collect(s.requests);
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
