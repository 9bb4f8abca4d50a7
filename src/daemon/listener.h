// The socket that farswapd listens on: systemd's, or one of its own; and by that, who may ask.
#pragma once

#include "base/fd.h"
#include "daemon/access.h"
#include "daemon/options.h"

namespace farswap::daemon {

struct Listener {
    Fd socket;  ///< SOCK_SEQPACKET, listening, non-blocking
    Access access;
};

/// Takes the socket that systemd passes (sd_listen_fds(3)), else makes one at options.socket in the place of
/// one that nobody listens on. Its mode and `access` agree: root, the group and the users of the options.
/// With no such option: whoever the mode of systemd's socket lets in; of our own one, the group farswap, and
/// where there is none root alone. EADDRINUSE: somebody listens there; ENOENT: there is no such group.
Result<Listener> listen_for_clients(const Options& options);

/// The socket at which jobs ask for their share of the machine's budget, open to everybody: systemd's, if it
/// passes one whose path ends as it has to, else, if `is_wanted` and systemd passes none at all, one made
/// beside options.socket. Empty: there is none. Errors as above.
Result<Fd> listen_for_shares(const Options& options, bool is_wanted);

/// Whether systemd has passed a socket for those who ask.
bool is_socket_activated();

/// At the end: the files of the sockets that these have made, so that nobody takes them for a farswapd. Those
/// of systemd stay.
void remove_own_sockets(const Options& options) noexcept;

}  // namespace farswap::daemon
