#include "target/remote.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <thread>
#include <vector>

#include "base/fd.h"
#include "target/proc.h"
#include "target/rseq.h"

namespace farswap::target {
namespace {

constexpr std::uint64_t kUserCodeSegment64 = 0x33;  // arch/x86/include/asm/segment.h: __USER_CS
constexpr std::chrono::microseconds kBetweenLooks{50};
constexpr std::size_t kSignalMaskSize = 8;  // the kernel's sigset_t

long trace(int request, pid_t task, std::uintptr_t address, std::uintptr_t data) noexcept {
    return ptrace(static_cast<__ptrace_request>(request), task, address, data);
}

bool is_event(int status, int event) noexcept {
    return WIFSTOPPED(status) && status >> 16 == event;
}

/// Whether the end of a task that we trace is to be taken. That of a child of our own is left for whoever
/// waits for its exit status. That of anybody else's child has to be taken, until then its parent is not
/// told; and that of a thread, until then its process has not ended for anybody.
bool is_end_ours(pid_t task) {
    if (read_process(task) != task) return true;
    const pid_t parent = read_parent(task);
    return parent != 0 && parent != getpid();
}

bool is_end(const siginfo_t& info) noexcept {
    return info.si_code == CLD_EXITED || info.si_code == CLD_KILLED || info.si_code == CLD_DUMPED;
}

/// Takes the ends of the threads that clone_stopped() has made in a process and that are not detached yet.
/// (Looks first: whatever one asks for, a tracer's wait takes stops, too.)
void take_ends_of_threads(pid_t process) {
    std::vector<pid_t> threads;
    append_threads(process, threads);
    for (const pid_t thread : threads) {
        siginfo_t info{};
        const auto id = static_cast<id_t>(thread);
        if (thread != process && waitid(P_PID, id, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) == 0 &&
            is_end(info))
            waitid(P_PID, id, &info, WEXITED | WNOHANG | __WALL);
    }
}

/// As waitpid(2) with `flags`. ESRCH: it has ended; see is_end_ours().
Result<int> take_stop(pid_t task, int flags) {
    siginfo_t info{};
    while (waitid(P_PID, static_cast<id_t>(task), &info, WSTOPPED | WEXITED | WNOWAIT | __WALL | flags) < 0) {
        if (errno != EINTR) return fail_errno(ESRCH, "cannot wait for process {}", task);
    }
    if (info.si_pid == 0) return 0;
    if (is_end(info)) {
        if (is_end_ours(task)) waitpid(task, nullptr, __WALL | WNOHANG);
        return fail(ESRCH, "process {} ended", task);
    }
    waitid(P_PID, static_cast<id_t>(task), &info, WSTOPPED | __WALL | WNOHANG);
    return info.si_status << 8 | 0x7f;  // as wait(2) encodes it
}

/// Waits for the task's next stop. ESRCH when it ended.
Result<int> wait_stop(pid_t task) {
    return take_stop(task, 0);
}

/// The same of a task that makes a clone(2): killed meanwhile, its end is not told before that of the new
/// thread, which is traced from its birth, is taken. It may be one of which we have heard nothing yet.
Result<int> wait_stop_of_cloner(pid_t task) {
    for (;;) {
        auto status = take_stop(task, WNOHANG);
        if (!status || *status != 0) return status;
        take_ends_of_threads(task);
        std::this_thread::sleep_for(kBetweenLooks);
    }
}

/// Lets go of a task that was killed while it was stopped, so that its parent is told; of one that does not
/// get to its end (in an uninterruptible sleep) when this thread ends.
void take_end(pid_t task) {
    constexpr int kTries = 200'000;
    for (int i = 0; i < kTries && take_stop(task, WNOHANG); i++) {
        take_ends_of_threads(task);
        std::this_thread::sleep_for(kBetweenLooks);
    }
}

/// The address of a `syscall` instruction in the task's vdso, so that no byte of the program is changed.
Result<std::uint64_t> find_syscall_instruction(pid_t task) {
    auto vdso = find_mapping(task, "[vdso]");
    if (!vdso) return std::unexpected(vdso.error());
    std::array<unsigned char, 16384> code;
    const std::size_t size = std::min<std::size_t>(vdso->end - vdso->start, code.size());
    iovec local{code.data(), size};
    iovec remote{reinterpret_cast<void*>(vdso->start), size};
    const ssize_t got = process_vm_readv(task, &local, 1, &remote, 1, 0);
    if (got < 0) return fail_errno(errno, "cannot read the memory of process {}", task);
    for (ssize_t i = 0; i + 1 < got; i++) {
        if (code[static_cast<std::size_t>(i)] == 0x0f && code[static_cast<std::size_t>(i) + 1] == 0x05) {
            return vdso->start + static_cast<std::uint64_t>(i);
        }
    }
    return fail(ENOEXEC, "process {} has no usable vdso", task);
}

/// System calls that end with EINTR at any stop, signal or not (signal(7), "Interruption of system calls ...
/// by stop signals"), and may be made again with the same arguments.
bool ends_with_eintr_at_a_stop(std::uint64_t number) noexcept {
    switch (number) {
        case SYS_epoll_wait:
        case SYS_epoll_pwait:
        case SYS_epoll_pwait2:
        case SYS_semop:
        case SYS_semtimedop:
        case SYS_rt_sigtimedwait:
        case SYS_recvfrom:
        case SYS_recvmsg:
        case SYS_recvmmsg:
        case SYS_sendto:
        case SYS_sendmsg:
        case SYS_accept:
        case SYS_accept4:
        case SYS_io_getevents:
        case SYS_io_pgetevents:
        case SYS_io_uring_enter:
        case SYS_read:  // inotify, userfaultfd
            return true;
        default:
            return false;
    }
}

}  // namespace

RemoteTask::RemoteTask(RemoteTask&& other) noexcept
    : task_(std::exchange(other.task_, 0)),
      born_(std::exchange(other.born_, 0)),
      stopped_(other.stopped_),
      prepared_(std::exchange(other.prepared_, false)),
      saved_(other.saved_),
      signal_mask_(other.signal_mask_),
      syscall_instruction_(other.syscall_instruction_) {}

RemoteTask::~RemoteTask() {
    if (task_ == 0 || !stopped_) return;
    if (prepared_) restore();
    if (trace(PTRACE_DETACH, task_, 0, 0) != 0) take_end(task_);
}

Result<RemoteTask> RemoteTask::seize(pid_t task, int limit_ms) {
    auto remote = seize_begin(task);
    if (!remote) return remote;
    if (auto stopped = remote->wait_until_stopped(limit_ms); !stopped)
        return std::unexpected(stopped.error());
    return remote;
}

Result<RemoteTask> RemoteTask::seize_begin(pid_t task) {
    int error = trace(PTRACE_SEIZE, task, 0, 0) == 0 ? 0 : errno;
    // A program that another thread than the main one executes takes the main one's number when that is a
    // zombie, which may not be traced (execve(2); the kernel's de_thread()).
    for (int looks = 0; looks < 2 && error == EPERM && read_tracer(task) == 0; looks++) {
        if (const char state = read_state(task); state == 'Z' || state == 'X')
            return fail(ESTALE, "process {} has ended, or executes another program", task);
        error = trace(PTRACE_SEIZE, task, 0, 0) == 0 ? 0 : errno;
    }
    if (error != 0) {
        if (const pid_t tracer = error == EPERM ? read_tracer(task) : 0; tracer != 0)
            return fail(error, "process {} is being traced by process {} ({})", task, tracer,
                        read_name(tracer));
        return fail_errno(error, "cannot trace process {}", task);
    }
    RemoteTask remote(task);
    trace(PTRACE_INTERRUPT, task, 0, 0);
    return remote;
}

Result<bool> RemoteTask::has_stopped() {
    for (;;) {
        auto status = take_stop(task_, WNOHANG);
        if (!status) {
            task_ = 0;
            return std::unexpected(status.error());
        }
        if (*status == 0) return false;
        if (is_event(*status, PTRACE_EVENT_STOP)) {
            stopped_ = true;
            // What it is to do would stop, too, and so would whatever thread it makes.
            if (WSTOPSIG(*status) != SIGTRAP)
                return fail(EBUSY,
                            "process {} is stopped (Ctrl-Z?): continue it first, by fg or kill -CONT {}",
                            task_, task_);
            break;
        }
        const bool signal_delivery = *status >> 16 == 0;
        trace(PTRACE_CONT, task_, 0, signal_delivery ? static_cast<std::uintptr_t>(WSTOPSIG(*status)) : 0);
    }
    if (auto prepared = prepare(); !prepared) return std::unexpected(prepared.error());
    return true;
}

/// Polls, since a task in an uninterruptible sleep gives no event at all.
Status RemoteTask::wait_until_stopped(int limit_ms) {
    for (int waited_us = 0; waited_us < limit_ms * 1000; waited_us += 50) {
        auto stopped = has_stopped();
        if (!stopped) return std::unexpected(stopped.error());
        if (*stopped) return {};
        std::this_thread::sleep_for(kBetweenLooks);
    }
    return fail(ETIMEDOUT, "process {} does not stop: it sleeps in the kernel", task_);
}

Result<RemoteTask> RemoteTask::seize_at_exec(pid_t task, int go_fd) {
    constexpr std::uintptr_t options = PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL;
    if (trace(PTRACE_SEIZE, task, 0, options) != 0) {
        return fail_errno(errno, "cannot trace the program that was started: ptrace is not allowed here");
    }
    RemoteTask remote(task);
    const char go = 1;
    if (write(go_fd, &go, 1) != 1) return fail_errno(errno, "cannot start process {}", task);
    for (;;) {
        auto status = wait_stop(task);
        if (!status) {
            remote.task_ = 0;
            return fail(ECHILD, "process {} ended before it executed a program", task);
        }
        if (is_event(*status, PTRACE_EVENT_EXEC)) break;
        const bool signal_delivery = *status >> 16 == 0;
        trace(PTRACE_CONT, task, 0, signal_delivery ? static_cast<std::uintptr_t>(WSTOPSIG(*status)) : 0);
    }
    // At the exec event the system call has not returned yet and would overwrite rax: step out of it first.
    trace(PTRACE_INTERRUPT, task, 0, 0);
    trace(PTRACE_CONT, task, 0, 0);
    if (auto stopped = remote.wait_until_stopped(10'000); !stopped) return std::unexpected(stopped.error());
    return remote;
}

Status RemoteTask::prepare() {
    iovec registers{&saved_, sizeof saved_};
    if (trace(PTRACE_GETREGSET, task_, 1 /* NT_PRSTATUS */, reinterpret_cast<std::uintptr_t>(&registers)) !=
            0 ||
        trace(PTRACE_GETSIGMASK, task_, kSignalMaskSize, reinterpret_cast<std::uintptr_t>(&signal_mask_)) !=
            0) {
        return fail_errno(errno, "cannot read the registers of process {}", task_);
    }
    if (registers.iov_len != sizeof saved_ || saved_.cs != kUserCodeSegment64) {
        return fail(ENOEXEC, "process {} is a 32-bit program: farswap pages 64-bit programs only", task_);
    }
    if (const auto abort = rseq_abort(task_, saved_.rip)) saved_.rip = *abort;
    auto instruction = find_syscall_instruction(task_);
    if (!instruction) return std::unexpected(instruction.error());
    syscall_instruction_ = *instruction;
    // From here on it is not itself: without us it would go on anywhere.
    trace(PTRACE_SETOPTIONS, task_, 0, PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL);
    const std::uint64_t all_blocked = ~0ull;
    trace(PTRACE_SETSIGMASK, task_, kSignalMaskSize, reinterpret_cast<std::uintptr_t>(&all_blocked));
    prepared_ = true;
    return {};
}

Status RemoteTask::single_step(long number, const long (&arguments)[6]) {
    user_regs_struct registers = saved_;
    registers.rax = static_cast<std::uint64_t>(number);
    registers.orig_rax = ~0ull;  // no system call to restart
    registers.rip = syscall_instruction_;
    registers.rdi = static_cast<std::uint64_t>(arguments[0]);
    registers.rsi = static_cast<std::uint64_t>(arguments[1]);
    registers.rdx = static_cast<std::uint64_t>(arguments[2]);
    registers.r10 = static_cast<std::uint64_t>(arguments[3]);
    registers.r8 = static_cast<std::uint64_t>(arguments[4]);
    registers.r9 = static_cast<std::uint64_t>(arguments[5]);
    iovec vector{&registers, sizeof registers};
    if (trace(PTRACE_SETREGSET, task_, 1, reinterpret_cast<std::uintptr_t>(&vector)) != 0 ||
        trace(PTRACE_SINGLESTEP, task_, 0, 0) != 0) {
        return fail_errno(errno, "cannot step process {}", task_);
    }
    return {};
}

Result<long> RemoteTask::call(long number, long a, long b, long c, long d, long e, long f) {
    if (auto stepped = single_step(number, {a, b, c, d, e, f}); !stepped)
        return std::unexpected(stepped.error());
    for (;;) {
        auto status = number == SYS_clone ? wait_stop_of_cloner(task_) : wait_stop(task_);
        if (!status) {
            task_ = 0;
            return std::unexpected(status.error());
        }
        user_regs_struct registers{};
        iovec vector{&registers, sizeof registers};
        if (trace(PTRACE_GETREGSET, task_, 1, reinterpret_cast<std::uintptr_t>(&vector)) != 0) {
            return fail_errno(errno, "cannot read the registers of process {}", task_);
        }
        if (WSTOPSIG(*status) == SIGTRAP && *status >> 16 == 0 && registers.rip == syscall_instruction_ + 2) {
            return static_cast<long>(registers.rax);
        }
        // The new thread's number in our pid namespace: what clone returns is of the program's.
        if (unsigned long born = 0;
            is_event(*status, PTRACE_EVENT_CLONE) &&
            trace(PTRACE_GETEVENTMSG, task_, 0, reinterpret_cast<std::uintptr_t>(&born)) == 0) {
            born_ = static_cast<pid_t>(born);
        }
        // A group stop or a clone event on the way: go on stepping. Signals cannot arrive, they are blocked.
        if (trace(PTRACE_SINGLESTEP, task_, 0, 0) != 0)
            return fail_errno(errno, "cannot step process {}", task_);
    }
}

Result<pid_t> RemoteTask::clone_stopped(unsigned long flags, std::uint64_t stack) {
    auto made = call(SYS_clone, static_cast<long>(flags), static_cast<long>(stack));
    if (!made) return std::unexpected(made.error());
    if (*made < 0) return fail_errno(static_cast<int>(-*made), "cannot start a thread in process {}", task_);
    const pid_t born = std::exchange(born_, 0);
    if (born == 0) return fail(ESRCH, "cannot find the thread started in process {}", task_);
    auto status = wait_stop(born);
    if (!status) return std::unexpected(status.error());
    return born;
}

Status RemoteTask::start_detached(pid_t task, std::uint64_t entry, std::uint64_t stack,
                                  std::uint64_t argument) {
    user_regs_struct registers{};
    iovec vector{&registers, sizeof registers};
    if (trace(PTRACE_GETREGSET, task, 1, reinterpret_cast<std::uintptr_t>(&vector)) != 0) {
        return fail_errno(errno, "cannot read the registers of thread {}", task);
    }
    registers.rip = entry;
    registers.rsp =
        stack - 8;  // as after a call instruction (x86-64 psABI: rsp + 8 is 16-byte aligned at entry)
    registers.rdi = argument;
    registers.orig_rax = ~0ull;
    registers.eflags &= ~0x100ull;  // the trap flag of the step that made it
    if (trace(PTRACE_SETREGSET, task, 1, reinterpret_cast<std::uintptr_t>(&vector)) != 0 ||
        trace(PTRACE_DETACH, task, 0, 0) != 0) {
        return fail_errno(errno, "cannot start thread {}", task);
    }
    return {};
}

void RemoteTask::restore() noexcept {
    user_regs_struct registers = saved_;
    // The codes -ERESTART* are left to the kernel, which acts on them when this stop ends, signals
    // considered. A plain EINTR would reach the program, which has no signal to blame for it.
    const bool in_system_call = static_cast<long>(registers.orig_rax) >= 0;
    if (in_system_call && static_cast<long>(registers.rax) == -EINTR &&
        ends_with_eintr_at_a_stop(registers.orig_rax) && !signal_is_deliverable(task_, signal_mask_)) {
        registers.rax = registers.orig_rax;
        registers.rip -= 2;
        registers.orig_rax = ~0ull;
    }
    iovec vector{&registers, sizeof registers};
    trace(PTRACE_SETREGSET, task_, 1, reinterpret_cast<std::uintptr_t>(&vector));
    trace(PTRACE_SETSIGMASK, task_, kSignalMaskSize, reinterpret_cast<std::uintptr_t>(&signal_mask_));
    trace(PTRACE_SETOPTIONS, task_, 0, 0);
}

}  // namespace farswap::target
