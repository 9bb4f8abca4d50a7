// Between a job that has a share of the budget and the broker: a process that touches the stranger's bytes
// and descriptors, so that the broker does not. Knows the size and form of messages, not what is decided.
#pragma once

#include "daemon/access.h"

namespace farswap::daemon {

/// Carries messages both ways until one end has closed. A message that is no request, and a client that takes
/// nothing for five seconds or says nothing at first, end it, with a line on standard error. At most a
/// hundred messages a second. Both sockets block. Makes no system call that forbid_all_but_relaying()
/// forbids.
void relay(int client, int broker, const Peer& peer);

/// Answers with a refusal without having read anything; does not block.
void refuse_share(int client, const Peer& peer, const Error& why);

}  // namespace farswap::daemon
