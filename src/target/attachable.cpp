#include "target/attachable.h"

#include <unistd.h>

#include <algorithm>
#include <vector>

#include "target/proc.h"

namespace farswap::target {
namespace {

constexpr std::string_view kAgentName = "farswap";  // agent.c

bool is_us_or_above_us(pid_t process) {
    for (pid_t at = getpid(); at > 1; at = read_parent(at)) {
        if (at == process) return true;
    }
    return false;
}

}  // namespace

bool has_agent(pid_t process) {
    std::vector<pid_t> threads;
    append_threads(process, threads);
    return std::ranges::any_of(
        threads, [&](pid_t thread) { return thread != process && read_name(thread) == kAgentName; });
}

Status check_attachable(pid_t process) {
    const char state = process > 0 ? read_state(process) : '\0';
    if (state == '\0') return fail(ESRCH, "there is no process {}", process);
    if (const pid_t leader = read_process(process); leader != 0 && leader != process)
        return fail(EINVAL, "{} is a thread of process {}: give that number", process, leader);
    if (is_kernel_thread(process))
        return fail(EINVAL, "process {} ({}) is a thread of the kernel: it has no memory to page", process,
                    read_name(process));
    if (living_task(process) == 0) return fail(ESRCH, "process {} has ended already", process);
    if (is_us_or_above_us(process))
        return fail(EINVAL, "process {} is farswap itself or has started it: attach from another shell",
                    process);
    if (read_name(process) == kAgentName && !has_agent(process))
        return fail(EINVAL, "process {} is farswap: it cannot be paged itself", process);
    if (has_agent(process))
        return fail(EALREADY, "process {} is managed by farswap already; farswap detach {} lets go of it",
                    process, process);
    if (const auto user = read_user(process); user && geteuid() != 0 && *user != geteuid())
        return fail(EPERM, "process {} is another user's ({}): attach as that user or as root", process,
                    *user);
    if (const pid_t tracer = read_tracer(process); tracer != 0)
        return fail(EBUSY, "process {} is traced by process {} ({}): end that first", process, tracer,
                    read_name(tracer));
    return {};
}

}  // namespace farswap::target
