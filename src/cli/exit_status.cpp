// Ends the process as the program ended; see exit_status.h.
#include "cli/exit_status.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

namespace farswap::cli {

Ending ending_of(int wait_status) noexcept {
    if (WIFSIGNALED(wait_status)) return {128 + WTERMSIG(wait_status), WTERMSIG(wait_status)};
    return {WEXITSTATUS(wait_status), 0};
}

Ending ending_of_start_failure(int code) noexcept {
    switch (code) {
        case ENOENT:
        case ENOTDIR:
            return {kExitNotFound, 0};
        case EACCES:
        case ENOEXEC:
        case EISDIR:
        case ELOOP:
        case ETXTBSY:
        case ELIBBAD:
        case E2BIG:
        case ENAMETOOLONG:
            return {kExitNotExecutable, 0};
        default:
            return {kExitFailure, 0};
    }
}

void end_process(const Ending& ending) noexcept {
    if (ending.signal != 0) {
        // Not RLIMIT_CORE: a core_pattern that is a pipe takes a core whatever the limit is (core(5)).
        ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
        struct sigaction action = {};
        action.sa_handler = SIG_DFL;
        ::sigaction(ending.signal, &action, nullptr);  // refused for SIGKILL, which needs none
        sigset_t set;
        sigemptyset(&set);
        sigaddset(&set, ending.signal);
        ::sigprocmask(SIG_UNBLOCK, &set, nullptr);
        ::kill(::getpid(), ending.signal);
        // A signal sent to oneself and not blocked is delivered before kill() returns, if the thread is the
        // only one that can take it; the others' threads have ended. What is left are signals that do not end
        // a process here.
    }
    ::_exit(ending.status);
}

}  // namespace farswap::cli
