// The event loop: file I/O, readiness, timers and deadlines of the pager's one thread, on io_uring, or on
// epoll where io_uring is refused. Knows nothing of what is swapped.
#pragma once

#include <sys/epoll.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <span>

#include "base/result.h"
#include "farswap/request.h"
#include "io/engine_kind.h"

namespace farswap::io {

using Clock = std::chrono::steady_clock;

/// A descriptor that is watched for readiness. Owned by the caller, who keeps it until remove().
/// Level-triggered: `ready` is called again while the descriptor stays ready.
struct Watch {
    static constexpr std::uint32_t kAlwaysReported = EPOLLERR | EPOLLHUP;

    int fd = -1;
    std::uint32_t events = EPOLLIN;  ///< EPOLLIN, EPOLLOUT; besides what is always reported
    void (*ready)(Watch& watch, std::uint32_t events) = nullptr;
    void* owner = nullptr;
    std::uint32_t index = 0;  ///< the loop's
    bool added = false;       ///< the loop's
};

/// Fires once at `when`. Owned by the caller, who keeps it until it has fired or was cancelled; it may be
/// armed again from its own callback.
struct Timer {
    Clock::time_point when{};
    void (*fire)(Timer& timer) = nullptr;
    void* owner = nullptr;

    static constexpr std::uint32_t kNotArmed = 0xffffffffu;
    std::uint32_t index = kNotArmed;  ///< the loop's: place in its heap
    bool armed() const noexcept { return index != kNotArmed; }
};

/// A file that requests go to. Owned by the caller, who keeps it and the descriptor until its last request
/// has completed.
struct File {
    int fd = -1;
    std::uint64_t base = 0;   ///< bytes from the start of the file to offset 0 of its requests
    std::int32_t fixed = -1;  ///< the loop's: index among the registered files
};

struct LoopOptions {
    std::uint32_t requests_max = 1024;  ///< file requests in the kernel at a time; more wait in the loop
    std::uint32_t watches_max = 8192;
    std::uint32_t timers_max = 8192;
    /// Empty: the one that FARSWAP_IO_ENGINE asks for; else io_uring, and epoll where that is refused.
    std::optional<EngineKind> engine{};
    /// The thread that uses the loop may die and another take its place (keeper/keeper.h): io_uring does
    /// without what binds a ring to one (IORING_SETUP_SINGLE_ISSUER).
    bool outlives_its_thread = false;
    /// Of the threads that the engine may have for file requests (setpriority(2)), where that is permitted.
    int workers_nice = 0;
};

/// One thread makes and uses a loop, but for wake(). Callbacks run inside run_once(), and may call every
/// function of the loop but run_once(). Nothing is allocated after create().
class Loop {
  public:
    static Result<std::unique_ptr<Loop>> create(const LoopOptions& options = {});
    ~Loop();
    Loop(const Loop&) = delete;
    Loop& operator=(const Loop&) = delete;

    EngineKind engine() const noexcept;

    /// Registers the pool's memory, so that the kernel pins it once (io_uring_register_buffers(3)); requests
    /// inside it then use the fixed operations. Of one memory the first `ready` bytes are, in whole MiB, and
    /// more of them by further calls. Of one memory only. ENOMEM under a small RLIMIT_MEMLOCK: requests
    /// work without. Never punch holes into the memory afterwards: the kernel would go on sending the old
    /// pages. With epoll there is nothing to register: it succeeds, and memory_registered() stays false.
    Status register_memory(std::span<std::byte> memory, std::size_t ready);
    Status register_memory(std::span<std::byte> memory) { return register_memory(memory, memory.size()); }
    /// Whether some of it has been, and nothing refused.
    bool memory_registered() const noexcept;
    /// Registers the file for faster use (io_uring_register_files(3)); plain use works without, and is all
    /// there is with epoll.
    Status register_file(File& file);
    void unregister_file(File& file) noexcept;  ///< no-op when it is not registered

    /// Starts the transfer between the request and the file (pread/pwrite at base + offset). validate()d
    /// first: a bad request completes with -EINVAL. Short transfers are continued; the end of the file inside
    /// a read is -EIO. See Request for the callback. The memory belongs to the kernel until the callback: a
    /// transfer that a disk holds on to ends at its deadline only if the kernel can interrupt it. With epoll
    /// nothing interrupts a system call on a file that has begun: its request ends late. What waits for its
    /// turn, for a socket or for a pipe ends in time.
    void submit(Request& request, File& file) noexcept;
    /// fdatasync(2) as an operation of the loop, completing like a request (result 0). Uses the request's
    /// timeout, callback and owner only.
    void submit_sync(Request& request, File& file) noexcept;
    /// posix_fallocate(3) of [base + offset, base + offset + length) without writing zeros: result 0 or
    /// -errno.
    void submit_allocate(Request& request, File& file) noexcept;
    /// Completes the request with `result` in the next round, without any I/O: for a store that refuses it.
    void complete_later(Request& request, int result) noexcept;
    /// Asks for an early end (-ECANCELED, or the result if that was faster). No-op for a request that is not
    /// here.
    void cancel(Request& request) noexcept;

    void add(Watch& watch) noexcept;
    void modify(Watch& watch, std::uint32_t events) noexcept;
    /// After it returns `ready` is never called, even when readiness had been reaped already. The kernel lets
    /// go of the open file in the next run_once() at the latest.
    void remove(Watch& watch) noexcept;

    void arm(Timer& timer, Clock::time_point when) noexcept;  ///< re-arms if armed
    void cancel(Timer& timer) noexcept;                       ///< no-op when not armed

    /// Waits until something happens or `timeout` passes (zero: does not wait; max(): for ever) and runs the
    /// callbacks of all that has happened. Timers first. Returns the number of callbacks run. For the first
    /// `spin` of the wait it polls, offering the core to others (sched_yield(2)), and sleeps only then.
    int run_once(std::chrono::nanoseconds timeout,
                 std::chrono::nanoseconds spin = std::chrono::nanoseconds::zero()) noexcept;
    /// How the last run_once() has waited.
    struct Wait {
        std::chrono::nanoseconds taken{};
        std::chrono::nanoseconds longest_yield{};  ///< how long somebody else had the core while we polled
    };
    const Wait& last_wait() const noexcept;
    /// Makes run_once() return soon. Any thread; async-signal-safe.
    void wake() noexcept;

    /// Requests accepted and not yet completed.
    std::uint32_t requests_in_flight() const noexcept;

  private:
    struct State;
    bool spin(std::chrono::nanoseconds limit) noexcept;
    explicit Loop(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

}  // namespace farswap::io
