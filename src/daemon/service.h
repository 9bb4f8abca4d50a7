// What the processes of farswapd that take connections do alike: signals by a descriptor, accepting, and the
// first steps of a child that serves one client. Knows nothing of what is served.
#pragma once

#include <unistd.h>

#include <chrono>

#include "base/fd.h"
#include "base/result.h"

namespace farswap::daemon {

inline constexpr int kAgainMs =
    1000;  ///< until the next attempt, after a shortage of descriptors or processes

/// Blocks SIGTERM, SIGINT, SIGHUP and SIGCHLD in the calling thread. -> A descriptor that is readable when
/// one is pending.
Result<Fd> take_signals();

struct Signals {
    bool end = false;     ///< SIGTERM or SIGINT
    bool reload = false;  ///< SIGHUP
};
/// All that are pending; of SIGCHLD nothing is said.
Signals read_signals(int descriptor);

/// Empty: nobody waits, or, and then `is_short` is set, there is no descriptor or memory for him now.
Fd accept_client(int listener, bool& is_short);

/// Where enter_child() puts the two sockets of a child.
inline constexpr int kParent = STDIN_FILENO, kClient = STDERR_FILENO + 1;

/// In a child that has just been forked: it ends with its parent and after `limit`, takes signals again, and
/// has nothing open but the two sockets, at kClient and kParent, and the standard output and error.
void enter_child(int client, int parent, std::chrono::seconds limit);

}  // namespace farswap::daemon
