// Starts a program that waits before its exec until it is told to go on. Knows nothing of agents.
#pragma once

#include <signal.h>
#include <sys/resource.h>
#include <sys/types.h>

#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"

namespace farswap::target {

/// What the program is to find as its caller left it; farswap has changed it for itself.
struct CallersState {
    sigset_t signal_mask{};
    int nice = 0;
    bool ignores_sigchld = false;  ///< an ignored signal stays so over exec
    rlimit descriptors{};          ///< RLIMIT_NOFILE; all zero: leave it
};

struct Spawned {
    pid_t process = 0;
    Fd go;      ///< write one byte: the child calls execvp(3)
    Fd failed;  ///< read: end of file when the exec succeeded, else one int, its errno
    Fd gate;    ///< for AdviceGate::listen(); none where the gate cannot be had
};

/// Forks. The child gets the caller's state, the default dispositions of the signals that farswap handles,
/// and no descriptor of ours. It may be traced by whoever may trace the program, from before its exec on:
/// what must be in nobody's reach must not be given to children (MADV_DONTFORK).
Result<Spawned> spawn_stopped(const std::vector<std::string>& argv, const CallersState& caller);

/// The errno of the exec, 0 when it succeeded. Blocks until the exec was tried.
int exec_error(const Fd& failed);

}  // namespace farswap::target
