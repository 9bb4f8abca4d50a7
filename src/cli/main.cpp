// The command `farswap`: parses the command line and does what it says. Knows no details of either.
#include <fcntl.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cstdio>
#include <exception>
#include <span>

#include "base/log.h"
#include "cli/bench.h"
#include "cli/check.h"
#include "cli/core.h"
#include "cli/debug.h"
#include "cli/detach.h"
#include "cli/exit_status.h"
#include "cli/machine_budget.h"
#include "cli/options.h"
#include "cli/report_command.h"
#include "cli/resume.h"
#include "cli/run.h"
#include "cli/set.h"
#include "cli/size_running.h"
#include "cli/top.h"
#include "swap/key_memory.h"

namespace {

using namespace farswap;
using namespace farswap::cli;

/// Standard descriptors that the caller left closed must not become a store's. With close-on-exec the program
/// finds them closed, as it would without us.
void occupy_standard_descriptors() {
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd) {
        // The lowest free descriptor is `fd`: those below are in use.
        if (::fcntl(fd, F_GETFD) < 0) [[maybe_unused]]
            const int opened = ::open("/dev/null", O_RDWR | O_CLOEXEC);
    }
}

/// Neither the programs that are paged nor others of the same user may trace us, read our memory or take our
/// descriptors, unless they have CAP_SYS_PTRACE (ptrace(2), "Ptrace access mode checking"); nor are there
/// core files. Some of our own files in /proc are root's by that, such as the page map.
void keep_out_of_reach() {
    ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

struct Execute {
    Ending operator()(const RunOptions& options) const { return run_command(options); }
    Ending operator()(const DetachOptions& options) const { return detach_command(options); }
    Ending operator()(const SetOptions& options) const { return {set_command(options), 0}; }
    Ending operator()(const SizeOptions& options) const { return size_command(options); }
    Ending operator()(const ResumeOptions& options) const { return {resume_command(options), 0}; }
    Ending operator()(const ReportOptions& options) const { return {report_command(options), 0}; }
    Ending operator()(const TopOptions& options) const { return top_command(options); }
    Ending operator()(const BudgetOptions& options) const { return {budget_command(options), 0}; }
    Ending operator()(const CoreOptions& options) const {
        return options.merge ? merge_core_command(options) : core_command(options);
    }
    Ending operator()(const DebugOptions& options) const { return debug_command(options); }
    Ending operator()(const CheckOptions& options) const { return {check_command(options), 0}; }
    Ending operator()(const BenchOptions& options) const { return {bench_command(options), 0}; }
    Ending operator()(const PrintText& print) const {
        std::fputs(print.text.c_str(), stdout);
        return {std::fflush(stdout) == 0 ? 0 : kExitFailure, 0};
    }
};

Ending farswap_main(std::span<const char* const> words) {
    const auto command = parse_command_line(words);
    if (!command) {
        log::write_line(command.error().message);
        return {kExitUsage, 0};
    }
    return std::visit(Execute{}, *command);
}

}  // namespace

int main(int argc, char** argv) {
    keep_out_of_reach();
    (void)keep_expanded_keys_apart();  // nobody has used OpenSSL yet
    occupy_standard_descriptors();
    Ending ending{kExitFailure, 0};
    try {
        ending = farswap_main(
            std::span<const char* const>(argv, static_cast<std::size_t>(argc)).subspan(argc > 0));
    } catch (const std::exception& error) {
        // Out of memory, in practice. The stack has been unwound: stores are closed, the program is let go.
        log::write_line(error.what());
    }
    end_process(ending);
}
