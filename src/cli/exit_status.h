// How farswap ends: the exit status that tells the caller what happened. Knows nothing of pages.
#pragma once

#include "base/result.h"

namespace farswap::cli {

inline constexpr int kExitUsage = 2;      ///< the command line is wrong
inline constexpr int kExitFailure = 125;  ///< farswap itself failed, before the program ran or while it did
inline constexpr int kExitLimit = 124;    ///< the time that was given was over, as of timeout(1)
inline constexpr int kExitNotExecutable = 126;  ///< the program cannot be executed
inline constexpr int kExitNotFound = 127;       ///< there is no such program

/// How the process should end: with a status, or by a signal when `signal` is not 0 (status is then 128 +
/// signal, what a shell makes of it).
struct Ending {
    int status = 0;
    int signal = 0;
};

/// The ending that a program's wait status asks for.
Ending ending_of(int wait_status) noexcept;

/// The ending for a program that could not be started: ENOENT and ENOTDIR are not found, EACCES, ENOEXEC,
/// ELOOP and their like not executable, all others are farswap's own failure.
Ending ending_of_start_failure(int code) noexcept;

/// Ends this process so that its parent sees the same as from the program. A signal is raised with its
/// default action and without a core dump: the one that mattered was the program's own, and the pager's would
/// hold other people's pages. SIGKILL too: it is sent to ourselves, which is safe because nothing is left to
/// clean up.
[[noreturn]] void end_process(const Ending& ending) noexcept;

}  // namespace farswap::cli
