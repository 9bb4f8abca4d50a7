#include "target/stopped_threads.h"

#include <elf.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "target/proc.h"

namespace farswap::target {
namespace {

constexpr std::chrono::microseconds kBetweenTries{200};
constexpr std::size_t kRegsetMax = 16384;  // XSAVE areas with AMX tiles are 11 KiB

std::vector<std::byte> read_regset(pid_t thread, unsigned note) {
    std::vector<std::byte> content(kRegsetMax);
    iovec vector{content.data(), content.size()};
    if (ptrace(PTRACE_GETREGSET, thread, reinterpret_cast<void*>(std::uintptr_t{note}), &vector) != 0)
        vector.iov_len = 0;
    content.resize(vector.iov_len);
    return content;
}

}  // namespace

Result<StoppedThreads> StoppedThreads::stop(pid_t process, pid_t spared, int limit_ms) {
    StoppedThreads stopped;
    const auto tries = std::chrono::milliseconds(limit_ms) / kBetweenTries;
    // One that runs may start others; none is missed once a look finds no new one after all have stopped.
    for (auto i = tries; i > 0; i--) {
        bool any = false;
        if (auto seized = stopped.seize_all(process, spared, any); !seized)
            return std::unexpected(seized.error());
        if (stopped.wait_for_all() && !any) break;
        std::this_thread::sleep_for(kBetweenTries);
    }
    if (stopped.threads_.empty()) return fail(ESRCH, "process {} has ended", process);
    std::ranges::stable_partition(stopped.threads_, [&](const auto& one) { return one.thread == process; });
    for (StoppedThread& one : stopped.threads_) {
        if (!one.is_stopped) continue;
        one.general = read_regset(one.thread, NT_PRSTATUS);
        one.floating = read_regset(one.thread, NT_PRFPREG);
        one.extended = read_regset(one.thread, NT_X86_XSTATE);
    }
    return stopped;
}

Status StoppedThreads::seize_all(pid_t process, pid_t spared, bool& any) {
    std::vector<pid_t> found;
    append_threads(process, found);
    for (const pid_t thread : found) {
        const bool is_known = std::ranges::find(threads_, thread, &StoppedThread::thread) != threads_.end();
        const char state = read_state(thread);
        if (thread == spared || is_known || state == '\0' || state == 'Z' || state == 'X' ||
            is_kernel_worker(thread))
            continue;
        if (ptrace(PTRACE_SEIZE, thread, 0, 0) != 0) {
            if (errno == ESRCH || read_process(thread) != process) continue;
            if (const pid_t tracer = read_tracer(thread))
                return fail(
                    EBUSY, "process {} is being traced by process {} (a debugger?): let go of it there first",
                    process, tracer);
            return fail_errno(errno, "cannot trace thread {} of process {}", thread, process);
        }
        any = true;
        ptrace(PTRACE_INTERRUPT, thread, 0, 0);
        threads_.push_back(
            {.thread = thread, .is_stopped = false, .general = {}, .floating = {}, .extended = {}});
    }
    return {};
}

/// Looks at those that have not stopped yet; whether none is left.
bool StoppedThreads::wait_for_all() {
    bool all = true;
    for (StoppedThread& one : threads_) {
        if (one.is_stopped) continue;
        int status = 0;
        const pid_t got = waitpid(one.thread, &status, __WALL | WNOHANG);
        if (got < 0 || (got == one.thread && !WIFSTOPPED(status))) {
            one.thread = 0;  // it has ended
            continue;
        }
        if (got == 0) {
            all = false;
            continue;
        }
        if (status >> 16 == PTRACE_EVENT_STOP) {
            one.is_stopped = true;
            continue;
        }
        // A signal on its way: handed on, and the stop comes right behind it.
        ptrace(PTRACE_CONT, one.thread, 0,
               reinterpret_cast<void*>(std::uintptr_t{static_cast<unsigned>(WSTOPSIG(status))}));
        all = false;
    }
    std::erase_if(threads_, [](const auto& one) { return one.thread == 0; });
    return all;
}

StoppedThreads::~StoppedThreads() {
    for (const StoppedThread& one : threads_) {
        // The kernel detaches only who is stopped; the others when this thread ends.
        if (one.is_stopped) ptrace(PTRACE_DETACH, one.thread, 0, 0);
    }
}

}  // namespace farswap::target
