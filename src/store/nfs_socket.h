// What the sockets of NFS connections have in common. Knows no protocol.
#pragma once

#include <sys/socket.h>

#include <cstdint>

namespace farswap::nfs {

struct Address {
    sockaddr_storage storage{};
    socklen_t size = 0;
};

/// Binds to a port below 1024, which servers ask for unless the export says `insecure`; without the right to
/// do so, or a free one, any port serves. (bindresvport(3) does IPv4 only.) `seed` says where to begin.
void bind_reserved_port(int fd, const Address& peer, std::uint32_t seed) noexcept;

}  // namespace farswap::nfs
