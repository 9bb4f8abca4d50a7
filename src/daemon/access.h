// Who may ask. Decides; knows nothing of what is asked for.
#pragma once

#include <sys/types.h>

#include <optional>
#include <vector>

#include "base/result.h"

namespace farswap::daemon {

/// Who is at the other end of a connection, as of when it connected (SO_PEERCRED, SO_PEERGROUPS; unix(7)), in
/// the user namespace of this process.
struct Peer {
    pid_t process = 0;  ///< 0: not in our process namespace
    uid_t user = 0;
    gid_t group = 0;
    std::vector<gid_t> groups{};  ///< supplementary ones
};
Result<Peer> peer_of(int socket);

/// Root may always ask. With `anybody` so may whoever the mode of the socket has let in.
struct Access {
    bool anybody = false;
    std::optional<gid_t> group;
    std::vector<uid_t> users;
};
bool may_ask(const Access& access, const Peer& peer);

}  // namespace farswap::daemon
