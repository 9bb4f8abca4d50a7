// farswap resume; see resume.h. A stopped pager cannot be asked for anything: it is found by the name of its
// socket, killed, and its keeper does the rest.
#include "cli/resume.h"

#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <thread>
#include <vector>

#include "base/fd.h"
#include "base/log.h"
#include "cli/control_socket.h"
#include "cli/exit_status.h"
#include "target/proc.h"

namespace farswap::cli {

namespace {

constexpr std::chrono::seconds kHeirMax{10};
constexpr std::chrono::milliseconds kLook{5};

/// Who traces the pager, if that is its keeper; 0: it has none.
pid_t keeper_of(pid_t pager) {
    const pid_t tracer = target::read_tracer(pager);
    return tracer != 0 && target::read_name(tracer) == "farswap-keeper" ? tracer : 0;
}

bool has_ended(const Fd& process) {
    pollfd ended{process.get(), POLLIN, 0};
    return poll(&ended, 1, 0) != 0;
}

/// The keeper's child that pages now. Others may begin jobs of their own meanwhile.
Result<pid_t> await_heir(pid_t keeper, const Fd& keeper_fd, pid_t before) {
    const auto until = std::chrono::steady_clock::now() + kHeirMax;
    while (std::chrono::steady_clock::now() < until && !has_ended(keeper_fd)) {
        const auto pagers = running_pagers();
        std::vector<pid_t> children;
        target::append_children(keeper, children);
        for (const pid_t child : children)
            if (child != before && std::ranges::find(pagers, child) != pagers.end()) return child;
        std::this_thread::sleep_for(kLook);
    }
    return fail(ESRCH, "no process has taken its place; what it paged has been stopped");
}

Fd open_process(pid_t process) {
    return Fd(static_cast<int>(syscall(SYS_pidfd_open, process, 0)));
}

Result<pid_t> resume(pid_t pager) {
    // What is found out below is then of the process that is killed, and of no other that has its number.
    const Fd pager_fd = open_process(pager);
    const auto pagers = running_pagers();
    if (!pager_fd || std::ranges::find(pagers, pager) == pagers.end())
        return fail(ESRCH, "process {} is no pager; one that is stopped is in farswap top as 'no answer'",
                    pager);
    const char state = target::read_state(pager);
    // Whoever is traced, as all with a keeper are, stops in a state of its own (proc(5), "state").
    if (state != 'T' && state != 't')
        return fail(EBUSY, "pager {} is not stopped (its state is {}), and goes on by itself", pager, state);
    const pid_t keeper = keeper_of(pager);
    const Fd keeper_fd = open_process(keeper);
    if (keeper == 0 || !keeper_fd || keeper_of(pager) != keeper)
        return fail(ENOENT,
                    "pager {} has no keeper, and would take its job along: kill -CONT {} lets it go on",
                    pager, pager);
    if (syscall(SYS_pidfd_send_signal, pager_fd.get(), SIGKILL, nullptr, 0) != 0)
        return fail_errno(errno, "cannot end pager {}", pager);
    return await_heir(keeper, keeper_fd, pager);
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
