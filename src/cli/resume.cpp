// farswap resume; see resume.h. A stopped pager cannot be asked for anything: it is found by the name of its
// socket, killed, and its keeper does the rest.
#include "cli/resume.h"

#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <thread>

#include "base/fd.h"
#include "base/log.h"
#include "cli/control_socket.h"
#include "cli/exit_status.h"
#include "target/proc.h"

namespace farswap::cli {

namespace {

constexpr std::chrono::seconds kHeirMax{10};
constexpr std::chrono::milliseconds kLook{5};

/// The keeper is what shares the pager's memory: its parent, or a child.
bool has_keeper(pid_t pager) {
    std::vector<pid_t> near{target::read_parent(pager)};
    target::append_children(pager, near);
    return std::ranges::any_of(near,
                               [](pid_t process) { return target::read_name(process) == "farswap-keeper"; });
}

/// Whoever pages now and did not before.
Result<pid_t> await_heir(const std::vector<pid_t>& before) {
    const auto until = std::chrono::steady_clock::now() + kHeirMax;
    while (std::chrono::steady_clock::now() < until) {
        for (const pid_t pager : running_pagers())
            if (std::ranges::find(before, pager) == before.end()) return pager;
        std::this_thread::sleep_for(kLook);
    }
    return fail(ESRCH, "no process has taken its place; what it paged has been stopped");
}

Result<pid_t> resume(pid_t pager) {
    const auto before = running_pagers();
    if (std::ranges::find(before, pager) == before.end())
        return fail(ESRCH, "process {} is no pager; one that is stopped is in farswap top as 'no answer'",
                    pager);
    const char state = target::read_state(pager);
    // Whoever is traced, as all with a keeper are, stops in a state of its own (proc(5), "state").
    if (state != 'T' && state != 't')
        return fail(EBUSY, "pager {} is not stopped (its state is {}), and goes on by itself", pager, state);
    if (!has_keeper(pager))
        return fail(ENOENT,
                    "pager {} has no keeper, and would take its job along: kill -CONT {} lets it go on",
                    pager, pager);
    if (::kill(pager, SIGKILL) != 0) return fail_errno(errno, "cannot end pager {}", pager);
    return await_heir(before);
}

}  // namespace

int resume_command(const ResumeOptions& options) {
    const auto heir = resume(options.pager);
    if (!heir) {
        log::write_line(heir.error().message);
        return kExitFailure;
    }
    log::write_line(fmt::format("process {} pages on in place of {}", *heir, options.pager));
    return 0;
}

}  // namespace farswap::cli
