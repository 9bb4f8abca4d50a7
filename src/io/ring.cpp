// See ring.h. Source of the flags: io_uring_setup(2), io_uring_enter(2).
#include "io/ring.h"

#include <algorithm>
#include <array>

#include "base/assert.h"

namespace farswap::io {

namespace {

struct SetupFlags {
    unsigned flags;
    bool shows_task_work;
};

// From the cheapest for the kernel to what every kernel since 5.11 can do.
constexpr unsigned kCooperative =
    IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL;
constexpr std::array kSetups{
    SetupFlags{kCooperative | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN, true},
    SetupFlags{kCooperative, true},
    SetupFlags{0, false},
};

}  // namespace

Ring::~Ring() {
    if (made_) io_uring_queue_exit(&ring_);
}

Status Ring::init(unsigned submissions, unsigned completions, bool any_thread) {
    int error = 0;
    for (const SetupFlags& setup : kSetups) {
        if (any_thread && (setup.flags & IORING_SETUP_SINGLE_ISSUER) != 0) continue;
        io_uring_params params{};
        params.flags = setup.flags | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
        params.cq_entries = completions;
        error = -io_uring_queue_init_params(submissions, &ring_, &params);
        if (error == EINVAL) continue;
        if (error != 0) break;
        made_ = true;
        // What a copy of us wrote there would be asked for in our name.
        (void)io_uring_ring_dontfork(&ring_);
        shows_task_work_ = setup.shows_task_work;
        if (!(params.features & IORING_FEAT_EXT_ARG) || !(params.features & IORING_FEAT_NODROP))
            return fail(ENOSYS, "this kernel's io_uring is too old; farswap needs Linux 6.8 or later");
        error = use_once();
        if (error == 0) return {};
        break;
    }
    if (error == ENOSYS || error == EPERM)
        return fail_errno(
            error,
            "io_uring is not available: set 'sysctl kernel.io_uring_disabled=0', or allow the io_uring_* "
            "calls in the container's seccomp profile");
    if (error == ENOMEM)
        return fail_errno(error, "io_uring cannot be set up: raise the locked-memory limit (ulimit -l)");
    return fail_errno(error, "io_uring cannot be set up");
}

/// A seccomp filter may permit io_uring_setup(2) and refuse io_uring_enter(2), which nobody would hear of
/// later (see submit_and_wait). -> 0 or the error number.
int Ring::use_once() noexcept {
    io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
    FARSWAP_ASSERT(sqe != nullptr);
    io_uring_prep_nop(sqe);
    int result = 0;
    do result = io_uring_submit(&ring_);
    while (result == -EINTR);
    if (result < 0) return -result;
    io_uring_cqe* done = nullptr;
    do result = io_uring_wait_cqe(&ring_, &done);
    while (result == -EINTR);
    if (result < 0) return -result;
    io_uring_cqe_seen(&ring_, done);
    return 0;
}

io_uring_sqe* Ring::entry() noexcept {
    if (io_uring_sqe* sqe = io_uring_get_sqe(&ring_)) return sqe;
    io_uring_submit(&ring_);
    return io_uring_get_sqe(&ring_);
}

void Ring::submit_and_wait(std::chrono::nanoseconds wait) noexcept {
    using std::chrono::nanoseconds;
    // Errors need no handling here: what was not submitted stays queued for the next call (EAGAIN, EBUSY),
    // and EINTR and ETIME mean that the wait is over.
    if (wait == nanoseconds::zero() || ready() > 0) {
        const bool task_work = shows_task_work_ && (IO_URING_READ_ONCE(*ring_.sq.kflags) & IORING_SQ_TASKRUN);
        if (task_work || io_uring_sq_ready(&ring_) > 0 || io_uring_cq_has_overflow(&ring_))
            io_uring_submit_and_get_events(&ring_);
        return;
    }
    io_uring_cqe* first = nullptr;
    if (wait == nanoseconds::max()) {
        io_uring_submit_and_wait(&ring_, 1);
        return;
    }
    __kernel_timespec limit{};
    limit.tv_sec = wait.count() / 1'000'000'000;
    limit.tv_nsec = wait.count() % 1'000'000'000;
    io_uring_submit_and_wait_timeout(&ring_, &first, 1, &limit, nullptr);
}

Completion Ring::reap() noexcept {
    io_uring_cqe* oldest = nullptr;
    FARSWAP_ASSERT(io_uring_peek_cqe(&ring_, &oldest) == 0 && oldest != nullptr);
    const Completion completion{static_cast<Kind>(oldest->user_data >> 32),
                                static_cast<std::uint32_t>(oldest->user_data), oldest->res};
    io_uring_cq_advance(&ring_, 1);
    return completion;
}

}  // namespace farswap::io
