// All threads of a process stopped at once, to be looked at: a debugger's view, by ptrace. Executes nothing
// in them.
#pragma once

#include <sys/procfs.h>
#include <sys/types.h>

#include <cstddef>
#include <span>
#include <vector>

#include "base/result.h"

namespace farswap::target {

/// A thread and its registers. Sizes and layouts as the kernel's regsets (linux/elf.h).
struct StoppedThread {
    pid_t thread = 0;
    bool is_stopped = false;          ///< false: it sleeps uninterruptibly; there are no registers of it
    std::vector<std::byte> general;   ///< NT_PRSTATUS: user_regs_struct
    std::vector<std::byte> floating;  ///< NT_PRFPREG: user_fpregs_struct
    std::vector<std::byte> extended;  ///< NT_X86_XSTATE; empty where the processor has none
};

/// Holds the threads for as long as it lives; whatever becomes of us, the kernel lets them go on. Used by the
/// one thread that made it.
class StoppedThreads {
  public:
    /// Stops all threads of `process` but `spared` (0: none). Those that do not stop within `limit_ms` (in
    /// the kernel, as vfork parents are) are listed without registers. EPERM, EBUSY: one may not be traced,
    /// or is; ESRCH: the process has ended.
    static Result<StoppedThreads> stop(pid_t process, pid_t spared, int limit_ms);
    StoppedThreads(StoppedThreads&& other) noexcept : threads_(std::exchange(other.threads_, {})) {}
    StoppedThreads& operator=(StoppedThreads&&) = delete;
    ~StoppedThreads();

    /// The main thread, if it is among them, first.
    std::span<const StoppedThread> threads() const noexcept { return threads_; }

  private:
    StoppedThreads() = default;
    Status seize_all(pid_t process, pid_t spared, bool& any);
    bool wait_for_all();

    std::vector<StoppedThread> threads_;
};

}  // namespace farswap::target
