// The event loop: file I/O, readiness, timers and deadlines of the pager's one thread, on io_uring.
// Knows nothing of what is swapped.
#pragma once

#include <sys/epoll.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <span>

#include "base/result.h"
#include "farswap/request.h"

namespace farswap::io {

using Clock = std::chrono::steady_clock;

/// A descriptor that is watched for readiness. Owned by the caller, who keeps it until remove().
/// Level-triggered: `ready` is called again while the descriptor stays ready.
struct Watch {
    int fd = -1;
    std::uint32_t events = EPOLLIN;  ///< EPOLLIN, EPOLLOUT; errors and hang-up are always reported
    void (*ready)(Watch& watch, std::uint32_t events) = nullptr;
    void* owner = nullptr;
    std::uint32_t index = 0;  ///< the loop's
    bool added = false;       ///< the loop's
};

/// Fires once at `when`. Owned by the caller, who keeps it until it has fired or was cancelled; it may be armed
/// again from its own callback.
struct Timer {
    Clock::time_point when{};
    void (*fire)(Timer& timer) = nullptr;
    void* owner = nullptr;
    std::uint32_t index = 0xffffffffu;  ///< the loop's place in its heap; ~0 when not armed
};

struct LoopOptions {
    std::uint32_t requests_max = 1024;  ///< file requests in flight; more wait in the loop
    std::uint32_t watches_max = 8192;
    std::uint32_t timers_max = 8192;
};

/// One thread makes and uses a loop, but for wake(). Callbacks run inside run_once(), and may call every function of
/// the loop but run_once(). Nothing is allocated after create().
class Loop {
  public:
    static Result<std::unique_ptr<Loop>> create(const LoopOptions& options = {});
    ~Loop();
    Loop(const Loop&) = delete;
    Loop& operator=(const Loop&) = delete;

    /// Registers the pool's memory, so that the kernel pins it once (io_uring_register_buffers(3)); requests
    /// inside it then use the fixed operations. ENOMEM under a small RLIMIT_MEMLOCK: requests work without.
    Status register_memory(std::span<std::byte> memory);
    bool memory_registered() const noexcept;
    /// Registers a descriptor for faster use (io_uring_register_files(3)); plain use works without. -> fixed index.
    Status register_file(int fd);
    void unregister_file(int fd) noexcept;

    /// Starts the transfer between the request and the file `fd` (pread/pwrite at request.offset). validate()d
    /// first: a bad request completes with -EINVAL. Short transfers are continued. See Request for the callback.
    void submit(Request& request, int fd) noexcept;
    /// fdatasync(2) as an operation of the loop, completing like a request (result 0). `request.op` is ignored.
    void submit_sync(Request& request, int fd) noexcept;
    void cancel(Request& request) noexcept;

    void add(Watch& watch) noexcept;
    void modify(Watch& watch, std::uint32_t events) noexcept;
    /// After it returns `ready` is never called, even when readiness had been reaped already.
    void remove(Watch& watch) noexcept;

    void arm(Timer& timer, Clock::time_point when) noexcept;  ///< re-arms if armed
    void cancel(Timer& timer) noexcept;                       ///< no-op when not armed

    /// Waits until something happens or `timeout` passes (zero: does not wait; max(): for ever) and runs the
    /// callbacks of all that has happened. Timers first. Returns the number of callbacks run.
    int run_once(std::chrono::nanoseconds timeout) noexcept;
    /// Makes run_once() return soon. Any thread; async-signal-safe.
    void wake() noexcept;

    std::uint32_t requests_in_flight() const noexcept;

  private:
    struct State;
    explicit Loop(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

}  // namespace farswap::io
