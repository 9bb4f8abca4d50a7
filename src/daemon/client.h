// Answers the one request of a connection. In a process of its own, as a descriptor from a stranger may hold
// up whoever touches it, even whoever closes it (FUSE).
#pragma once

#include "base/fd.h"
#include "daemon/access.h"

namespace farswap::daemon {

/// A descriptor of /dev/userfaultfd that shares nothing with others'; empty where there is none.
Fd open_device();

/// Reads the request, says on standard error what becomes of it, and answers. `device` is handed out if that
/// is what is asked for. Blocks until the client has sent something or hung up: the caller limits the time.
void serve(int socket, const Peer& peer, Fd device);

/// Answers with a refusal without having read anything; does not block.
void refuse(int socket, const Peer& peer, const Error& why);

}  // namespace farswap::daemon
