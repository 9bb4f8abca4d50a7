// See nfs_socket.h.
#include "store/nfs_socket.h"

#include <netinet/in.h>

#include <cerrno>

namespace farswap::nfs {

void bind_reserved_port(int fd, const Address& peer, std::uint32_t seed) noexcept {
    constexpr std::uint32_t kFirst = 600, kCount = 1024 - kFirst;
    for (std::uint32_t i = 0; i < 32; ++i) {
        const auto port = htons(static_cast<std::uint16_t>(kFirst + (seed + i) % kCount));
        sockaddr_storage local{};
        local.ss_family = peer.storage.ss_family;
        if (local.ss_family == AF_INET6) {
            reinterpret_cast<sockaddr_in6*>(&local)->sin6_port = port;
        } else {
            reinterpret_cast<sockaddr_in*>(&local)->sin_port = port;
        }
        if (::bind(fd, reinterpret_cast<sockaddr*>(&local), peer.size) == 0 || errno == EACCES) return;
    }
}

}  // namespace farswap::nfs
