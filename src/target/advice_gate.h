// Holds up the calls of madvise(2) that no event of userfaultfd tells of in time.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>

#include "base/fd.h"
#include "io/loop.h"

namespace farswap::target {

/// A seccomp filter hands these calls to us first (seccomp_unotify(2)):
/// - MADV_POPULATE_READ and _WRITE fill memory under the lock of the address space, which UFFDIO_REGISTER
/// waits for:
///   once such a call has begun, what it fills cannot be limited.
/// - MADV_GUARD_INSTALL drops pages without an event.
/// - unshare(2) and setns(2), where they ask for what only a process with a single thread gets (a user
/// namespace): the
///   agent is one more.
/// - seccomp(2), where its filter is for all threads (SECCOMP_FILTER_FLAG_TSYNC): the agent would be behind
/// it.
/// - MADV_WIPEONFORK and MADV_KEEPONFORK, which are dear to find out about at a fork, and may have changed by
/// then;
///   and io_uring_setup(2), as io_uring makes calls of madvise that pass by the filter.
/// No other call is touched. One thread: the loop's.
class AdviceGate {
  public:
    struct Call {
        std::uint64_t id = 0;  ///< the kernel's
        pid_t process = 0;
        pid_t thread = 0;
        int advice = 0;
        std::uint64_t start = 0, bytes = 0;
        io::Clock::time_point since{};

        bool is_for_one_thread = false;   ///< of unshare or setns; then there is no advice and no range
        bool is_for_all_threads = false;  ///< of seccomp; the same
        /// Of io_uring_setup or process_madvise: from then on forks may wipe what no call tells of.
        bool may_wipe_unseen = false;

        /// Whether the agent has to be away while it is made.
        bool wants_no_agent() const noexcept { return is_for_one_thread || is_for_all_threads; }
        bool populates() const noexcept;
        /// Whether it says what forks are to do with its range: wipe it, or copy it again.
        bool is_about_forks() const noexcept;
        bool wipes() const noexcept;
    };

    /// `called` is called from the loop; the caller's thread waits until let_go() or answer().
    AdviceGate(io::Loop& loop, std::function<void(const Call&)> called);
    ~AdviceGate();
    AdviceGate(const AdviceGate&) = delete;
    AdviceGate& operator=(const AdviceGate&) = delete;

    /// Installs the filter for the process that calls this and all that will come of it, over exec too. Safe
    /// between fork and exec. The listener's descriptor, close-on-exec, or -errno: EACCES without
    /// CAP_SYS_ADMIN and no_new_privs, EBUSY where a filter with a listener is in place already.
    static int install() noexcept;

    /// Takes over what install() gave, from the process that called it.
    void listen(Fd listener);
    /// Whether the job was started behind it.
    bool is_there() const noexcept { return static_cast<bool>(listener_); }
    /// Whether its thread still waits: a signal, a tracer or its end may have taken it out of the call.
    bool is_waiting(const Call& call) const noexcept;
    /// The call goes on. False: it is not made, as its thread has ended or a signal has taken it out of the
    /// call.
    bool let_go(const Call& call) const noexcept;
    /// The call returns without being made: it was made on its behalf. `error` is 0 or an errno.
    void answer(const Call& call, int error) const noexcept;

  private:
    void call_came(std::uint32_t events);

    io::Loop& loop_;
    std::function<void(const Call&)> called_;
    Fd listener_;
    io::Watch watch_;
};

}  // namespace farswap::target
