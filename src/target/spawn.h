// Starts a program that waits before its exec until it is told to go on. Knows nothing of agents.
#pragma once

#include <signal.h>
#include <sys/types.h>

#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"

namespace farswap::target {

struct Spawned {
    pid_t process = 0;
    Fd go;      ///< write one byte: the child calls execvp(3)
    Fd failed;  ///< read: end of file when the exec succeeded, else one int, its errno
};

/// Forks. The child gets `signal_mask` and the default dispositions of the signals that farswap handles, no
/// descriptor of ours, and the nice value `nice`.
Result<Spawned> spawn_stopped(const std::vector<std::string>& argv, const sigset_t& signal_mask, int nice);

/// The errno of the exec, 0 when it succeeded. Blocks until the exec was tried.
int exec_error(const Fd& failed);

}  // namespace farswap::target
