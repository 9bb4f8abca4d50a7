#include "target/spawn.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <vector>

namespace farswap::target {
namespace {

[[noreturn]] void run_child(const std::vector<char*>& arguments, const sigset_t& signal_mask, int nice,
                            int go, int failed) {
    char byte;
    if (read(go, &byte, 1) != 1) _exit(125);  // the pager died before it said go
    for (int signal : {SIGTERM, SIGHUP, SIGINT, SIGQUIT, SIGTSTP, SIGTTIN, SIGTTOU, SIGPIPE, SIGCHLD}) {
        struct sigaction current {};
        // Ignored signals stay ignored over exec, as nohup(1) relies on.
        if (sigaction(signal, nullptr, &current) == 0 && current.sa_handler != SIG_IGN)
            ::signal(signal, SIG_DFL);
    }
    setpriority(PRIO_PROCESS, 0, nice);
    sigprocmask(SIG_SETMASK, &signal_mask, nullptr);
    execvp(arguments[0], arguments.data());
    const int code = errno;
    [[maybe_unused]] auto written = write(failed, &code, sizeof code);
    _exit(code == ENOENT ? 127 : 126);
}

}  // namespace

Result<Spawned> spawn_stopped(const std::vector<std::string>& argv, const sigset_t& signal_mask, int nice) {
    int go[2], failed[2];
    if (pipe2(go, O_CLOEXEC) != 0) return fail_errno(errno, "cannot make a pipe");
    Fd go_read(go[0]), go_write(go[1]);
    if (pipe2(failed, O_CLOEXEC) != 0) return fail_errno(errno, "cannot make a pipe");
    Fd failed_read(failed[0]), failed_write(failed[1]);

    std::vector<char*> arguments;
    for (const std::string& argument : argv) arguments.push_back(const_cast<char*>(argument.c_str()));
    arguments.push_back(nullptr);

    const pid_t process = fork();
    if (process < 0) return fail_errno(errno, "cannot start a process");
    if (process == 0) {
        go_write.reset();
        run_child(arguments, signal_mask, nice, go_read.get(), failed_write.get());
    }
    return Spawned{process, std::move(go_write), std::move(failed_read)};
}

int exec_error(const Fd& failed) {
    int code = 0;
    while (read(failed.get(), &code, sizeof code) < 0 && errno == EINTR) {
    }
    return code;
}

}  // namespace farswap::target
