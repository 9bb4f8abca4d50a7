// One io_uring: set-up with fall-backs, submission entries, waiting. Knows nothing of requests and watches.
#pragma once

#include <liburing.h>

#include <chrono>
#include <cstdint>

#include "base/result.h"

namespace farswap::io {

/// What a completion belongs to, in the upper half of user_data; the lower half is an index of its table.
enum class Kind : std::uint32_t { kIgnored, kRequest, kWatch };

constexpr std::uint64_t tag(Kind kind, std::uint32_t index) noexcept {
    return std::uint64_t{static_cast<std::uint32_t>(kind)} << 32 | index;
}

struct Completion {
    Kind kind;
    std::uint32_t index;
    int result;
};

class Ring {
  public:
    Ring() = default;
    ~Ring();
    Ring(const Ring&) = delete;
    Ring& operator=(const Ring&) = delete;

    /// Uses deferred task work (Linux 6.1), co-operative task work (5.19), or neither, and tries the ring
    /// out. The error's code is that of io_uring_setup(2) or io_uring_enter(2). `any_thread`: not only the one
    /// that calls this may use it, though never two at once; deferred task work is not to be had then.
    Status init(unsigned submissions, unsigned completions, bool any_thread);

    /// An entry to fill, after submitting the queued ones when there is none free. Null when the kernel takes
    /// none now; try again after completions have been reaped.
    io_uring_sqe* entry() noexcept;

    /// Submits what is queued and, when `wait` is above zero, waits for a completion at most so long (max():
    /// for ever), in one system call; with nothing to submit and no wait, in none when the kernel has nothing
    /// to do.
    void submit_and_wait(std::chrono::nanoseconds wait) noexcept;

    /// Completions that can be reaped now.
    unsigned ready() const noexcept { return io_uring_cq_ready(&ring_); }
    /// Takes the oldest one. ready() was above zero.
    Completion reap() noexcept;

    io_uring& raw() noexcept { return ring_; }

  private:
    int use_once() noexcept;

    io_uring ring_{};
    bool made_ = false;
    bool shows_task_work_ =
        false;  ///< IORING_SETUP_TASKRUN_FLAG: the kernel shows when it wants to be entered
};

}  // namespace farswap::io
