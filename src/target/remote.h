// Another task's registers and system calls, by ptrace. Knows nothing of agents or memory management.
#pragma once

#include <sys/types.h>
#include <sys/user.h>

#include <cstdint>

#include "base/result.h"

namespace farswap::target {

/// A task that is seized, stopped and made to execute system calls one by one with all its signals blocked
/// (ptrace(2)). Used by one thread, the one that made it. On destruction the task gets its registers and
/// signal mask back and is detached; system calls that the stop interrupted are restarted, those that the
/// kernel does not restart by itself (epoll_wait and its like end with EINTR at any stop) by hand.
class RemoteTask {
  public:
    /// Seizes a running task and stops it at the edge of user space. ETIMEDOUT when it does not get there
    /// within `limit_ms` (it sleeps uninterruptibly, as vfork parents do); EPERM when it may not be traced or
    /// already is; ESTALE when it has ended and others of its process have not, as while one of them executes
    /// a program; ESRCH when it is gone.
    static Result<RemoteTask> seize(pid_t task, int limit_ms);
    /// The same in two steps, so that several tasks can be on their way to a stop at once. The kernel
    /// detaches no task that runs: one that is given up before it has stopped stays traced until this thread
    /// ends.
    static Result<RemoteTask> seize_begin(pid_t task);
    /// Never waits. Signals that arrive before the stop are handed on.
    Result<bool> has_stopped();
    /// Seizes `task`, which waits for a byte before it calls execve; `go_fd` gets that byte. Stops the new
    /// program before its first instruction. ECHILD when the task ended instead of executing anything.
    static Result<RemoteTask> seize_at_exec(pid_t task, int go_fd);

    RemoteTask(RemoteTask&& other) noexcept;
    RemoteTask& operator=(RemoteTask&&) = delete;
    ~RemoteTask();

    pid_t task() const noexcept { return task_; }
    /// Executes a system call; its result (a negative errno inside the value) or why it could not be made.
    Result<long> call(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0, long f = 0);
    /// clone(2) with `flags` (a thread that shares no descriptor table, say); the new task is left stopped
    /// and traced.
    Result<pid_t> clone_stopped(unsigned long flags, std::uint64_t stack);
    /// Sets a stopped task's instruction pointer, stack and first argument, and lets go of it.
    Status start_detached(pid_t task, std::uint64_t entry, std::uint64_t stack, std::uint64_t argument);

  private:
    explicit RemoteTask(pid_t task) noexcept : task_(task) {}
    Status wait_until_stopped(int limit_ms);
    Status prepare();
    Status single_step(long number, const long (&arguments)[6]);
    void restore() noexcept;

    pid_t task_ = 0;
    pid_t born_ = 0;  ///< the thread that the last call() has cloned
    bool stopped_ = false;
    bool prepared_ = false;
    user_regs_struct saved_{};
    std::uint64_t signal_mask_ = 0;
    std::uint64_t syscall_instruction_ = 0;
};

}  // namespace farswap::target
