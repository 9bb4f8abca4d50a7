#include "target/spawn.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string_view>
#include <system_error>
#include <vector>

#include "base/log.h"
#include "target/advice_gate.h"

namespace farswap::target {
namespace {

/// Where the program may lie, in the order of PATH; itself when it names a path (execvp(3)).
std::vector<std::string> places_of(const std::string& program) {
    if (program.find('/') != std::string::npos) return {program};
    const char* path = std::getenv("PATH");
    std::string_view left = path != nullptr ? path : "/bin:/usr/bin";
    std::vector<std::string> places;
    for (;;) {
        const std::size_t end = left.find(':');
        const std::string_view folder = left.substr(0, end);
        places.push_back(folder.empty() ? program : fmt::format("{}/{}", folder, program));
        if (end == std::string_view::npos) return places;
        left.remove_prefix(end + 1);
    }
}

bool is_elf(const char* path) {
    const Fd fd(open(path, O_RDONLY | O_CLOEXEC));
    char magic[4] = {};
    return fd && read(fd.get(), magic, sizeof magic) == sizeof magic && std::memcmp(magic, "\177ELF", 4) == 0;
}

/// As execvp(3), which would hand a broken binary to the shell too: only a script without "#!" goes there.
/// Its errno.
int execute(const std::vector<std::string>& places, const std::vector<char*>& arguments) {
    int result = ENOENT;
    for (const std::string& place : places) {
        execv(place.c_str(), arguments.data());
        if (errno == ENOENT || errno == ENOTDIR) continue;
        result = errno;
        if (result == EACCES) continue;
        if (result == ENOEXEC && !is_elf(place.c_str())) {
            std::vector<char*> shell{const_cast<char*>("sh"), const_cast<char*>(place.c_str())};
            shell.insert(shell.end(), arguments.begin() + 1, arguments.end());
            execv("/bin/sh", shell.data());
        }
        break;
    }
    return result;
}

/// Our descriptors that a program does not get.
std::vector<int> closed_on_exec() {
    std::vector<int> found;
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd", error)) {
        const int fd = std::atoi(entry.path().filename().c_str());
        const int flags = fcntl(fd, F_GETFD);
        if (flags >= 0 && (flags & FD_CLOEXEC) != 0) found.push_back(fd);
    }
    return found;
}

/// A pager without CAP_SYS_PTRACE could not trace a copy of itself, which must not be dumped as it must not
/// itself (ptrace(2), "Ptrace access mode checking"). Whoever else may trace the child then finds nothing of
/// the pager's: neither the pool nor a key is in the copy of its memory (MADV_DONTFORK), and it has none of
/// its descriptors.
void become_traceable(const std::vector<int>& not_ours, int go, int failed) {
    for (const int fd : not_ours)
        if (fd != go && fd != failed) close(fd);
    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
}

[[noreturn]] void run_child(const std::vector<std::string>& places, const std::vector<char*>& arguments,
                            const CallersState& caller, int go, int failed) {
    const int gate = AdviceGate::install();
    if (write(failed, &gate, sizeof gate) != sizeof gate) _exit(125);
    char byte;
    if (read(go, &byte, 1) != 1) _exit(125);  // the pager died before it said go
    for (int signal : {SIGTERM, SIGHUP, SIGINT, SIGQUIT, SIGTSTP, SIGTTIN, SIGTTOU, SIGPIPE, SIGCHLD}) {
        struct sigaction current {};
        // Ignored signals stay ignored over exec, as nohup(1) relies on.
        if (sigaction(signal, nullptr, &current) == 0 && current.sa_handler != SIG_IGN)
            ::signal(signal, SIG_DFL);
    }
    if (caller.ignores_sigchld) ::signal(SIGCHLD, SIG_IGN);
    if (caller.descriptors.rlim_max != 0) setrlimit(RLIMIT_NOFILE, &caller.descriptors);
    setpriority(PRIO_PROCESS, 0, caller.nice);
    sigprocmask(SIG_SETMASK, &caller.signal_mask, nullptr);
    const int code = execute(places, arguments);
    [[maybe_unused]] auto written = write(failed, &code, sizeof code);
    _exit(code == ENOENT ? 127 : 126);
}

/// The listener of the child's gate; none if it could not install one, for which it needs CAP_SYS_ADMIN.
Result<Fd> take_gate(pid_t process, int from) {
    int gate = -1;
    if (read(from, &gate, sizeof gate) != sizeof gate)
        return fail(ECHILD, "the program ended before its start");
    if (gate < 0) {
        log::debug("no gate for MADV_POPULATE: {}", strerror(-gate));
        return Fd();
    }
    const Fd pidfd(static_cast<int>(syscall(SYS_pidfd_open, process, 0)));
    Fd ours(static_cast<int>(syscall(SYS_pidfd_getfd, pidfd.get(), gate, 0)));
    if (!ours) return fail_errno(errno, "cannot take over the listener of a seccomp filter");
    return ours;
}

}  // namespace

Result<Spawned> spawn_stopped(const std::vector<std::string>& argv, const CallersState& caller) {
    int go[2], failed[2];
    if (pipe2(go, O_CLOEXEC) != 0) return fail_errno(errno, "cannot make a pipe");
    Fd go_read(go[0]), go_write(go[1]);
    if (pipe2(failed, O_CLOEXEC) != 0) return fail_errno(errno, "cannot make a pipe");
    Fd failed_read(failed[0]), failed_write(failed[1]);

    std::vector<char*> arguments;
    arguments.reserve(argv.size() + 1);
    for (const std::string& argument : argv) arguments.push_back(const_cast<char*>(argument.c_str()));
    arguments.push_back(nullptr);

    const std::vector<std::string> places = places_of(argv[0]);
    const std::vector<int> not_the_childs = closed_on_exec();
    const pid_t process = fork();
    if (process < 0) return fail_errno(errno, "cannot start a process");
    if (process == 0) {
        become_traceable(not_the_childs, go_read.get(), failed_write.get());
        run_child(places, arguments, caller, go_read.get(), failed_write.get());
    }
    failed_write.reset();
    auto gate = take_gate(process, failed_read.get());
    if (!gate) {
        kill(process, SIGKILL);
        waitpid(process, nullptr, 0);
        return std::unexpected(gate.error());
    }
    return Spawned{process, std::move(go_write), std::move(failed_read), std::move(*gate)};
}

int exec_error(const Fd& failed) {
    int code = 0;
    while (read(failed.get(), &code, sizeof code) < 0 && errno == EINTR) {
    }
    return code;
}

}  // namespace farswap::target
