#include "target/eject.h"

#include <sys/syscall.h>

#include <chrono>
#include <thread>

#include "target/proc.h"

namespace farswap::target {
namespace {

constexpr int kAgentEndLimitMs = 10'000;

/// Ends are not announced by anything that works for a thread on Linux 6.8: looked for.
bool wait_for_end(pid_t process, pid_t thread) {
    for (int waited_us = 0; waited_us < kAgentEndLimitMs * 1000; waited_us += 100) {
        const pid_t owner = read_process(thread);
        if (owner == 0 || owner != process || read_state(thread) == 'Z') return true;
        std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
    return false;
}

}  // namespace

Status eject(RemoteTask& task, pid_t agent, std::span<const AddressRange> ranges) {
    if (task.task() == 0) return fail(ESRCH, "the process has ended");
    if (agent != 0 && !wait_for_end(read_process(task.task()), agent))
        return fail(ETIMEDOUT, "the agent in process {} does not end", task.task());
    for (const AddressRange& range : ranges) {
        auto done =
            task.call(SYS_munmap, static_cast<long>(range.start), static_cast<long>(range.end - range.start));
        if (!done) return std::unexpected(done.error());
        if (*done != 0)
            return fail_errno(static_cast<int>(-*done), "cannot unmap the agent's memory in process {}",
                              task.task());
    }
    return {};
}

}  // namespace farswap::target
