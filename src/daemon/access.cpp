#include "daemon/access.h"

#include <sys/socket.h>

#include <algorithm>

namespace farswap::daemon {

Result<Peer> peer_of(int socket) {
    ucred credentials{};
    socklen_t size = sizeof credentials;
    if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0)
        return fail_errno(errno, "cannot tell who asks");
    Peer peer{credentials.pid, credentials.uid, credentials.gid, {}};
    size = 0;
    // Too small a buffer is answered with the size that is needed.
    if (getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, nullptr, &size) == 0) return peer;
    if (errno != ERANGE) return fail_errno(errno, "cannot tell the groups of who asks");
    peer.groups.resize(size / sizeof(gid_t));
    if (getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, peer.groups.data(), &size) != 0)
        return fail_errno(errno, "cannot tell the groups of who asks");
    return peer;
}

bool may_ask(const Access& access, const Peer& peer) {
    if (peer.user == 0 || access.anybody) return true;
    if (std::ranges::find(access.users, peer.user) != access.users.end()) return true;
    if (!access.group) return false;
    return peer.group == *access.group || std::ranges::find(peer.groups, *access.group) != peer.groups.end();
}

}  // namespace farswap::daemon
