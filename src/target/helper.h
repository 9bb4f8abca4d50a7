// Asks farswapd for what an ordinary user lacks. Knows nothing of why it is asked for.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "base/fd.h"
#include "base/result.h"

namespace farswap::target {

/// Where farswapd listens: what FARSWAPD_SOCKET says, unless this program has more rights than its caller
/// (secure_getenv(3)), else kHelperSocket.
std::string helper_socket();

/// A connection to farswapd at a path, to a process of root's, or to whom is_trusted_helper() trusts. It
/// sends and receives for ten seconds at the most, or, without `may_wait`, does not block. Errors as of
/// helper_device(); EAGAIN: so many wait already.
Result<Fd> connect_to_farswapd(const std::string& path, bool may_wait);

/// A descriptor of /dev/userfaultfd. Any thread; blocks for ten seconds at the most. ENOENT or ECONNREFUSED:
/// no farswapd runs; EACCES: its socket is closed to this user; EPERM: it refuses, or is not root's; the
/// message names the socket in each case.
Result<Fd> helper_device();

/// UFFDIO_API with `features` on `uffd`, which stays the caller's. Errors as of helper_device().
Status helper_enable(int uffd, std::uint64_t features);

/// What is known about who listens on a helper's socket.
struct HelperPeer {
    uid_t user = 0;                ///< SO_PEERCRED, in our user namespace
    uid_t unknown_user = 65534;    ///< what the kernel says for those that it does not have
                                   ///< (/proc/sys/kernel/overflowuid)
    bool outside_exists = false;   ///< whether there are users that our user namespace does not have
    bool named_by_caller = false;  ///< by FARSWAPD_SOCKET
    uid_t caller = 0;              ///< ourselves
};

/// Whether the userfaultfd of a program may be given to it: it is root; or one from outside of our user
/// namespace, where root cannot be told from others and who may place a socket decides; or, where the caller
/// has named the socket, the caller himself.
bool is_trusted_helper(const HelperPeer& peer) noexcept;

}  // namespace farswap::target
