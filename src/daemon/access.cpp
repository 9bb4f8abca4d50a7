#include "daemon/access.h"

#include <sys/socket.h>

#include <algorithm>

namespace farswap::daemon {
namespace {

constexpr std::size_t kGroupsUsual = 64;

}  // namespace

Result<Peer> peer_of(int socket) {
    ucred credentials{};
    socklen_t size = sizeof credentials;
    if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0)
        return fail_errno(errno, "cannot tell who asks");
    Peer peer{credentials.pid, credentials.uid, credentials.gid, {}};
    peer.groups.resize(kGroupsUsual);
    size = static_cast<socklen_t>(peer.groups.size() * sizeof(gid_t));
    int error = getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, peer.groups.data(), &size) == 0 ? 0 : errno;
    if (error == ERANGE) {  // and `size` is what is needed
        peer.groups.resize(size / sizeof(gid_t));
        error = getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, peer.groups.data(), &size) == 0 ? 0 : errno;
    }
    if (error != 0) return fail_errno(error, "cannot tell the groups of who asks");
    peer.groups.resize(size / sizeof(gid_t));
    return peer;
}

bool may_ask(const Access& access, const Peer& peer) {
    if (peer.user == 0 || access.anybody) return true;
    if (std::ranges::find(access.users, peer.user) != access.users.end()) return true;
    if (!access.group) return false;
    return peer.group == *access.group || std::ranges::find(peer.groups, *access.group) != peer.groups.end();
}

}  // namespace farswap::daemon
