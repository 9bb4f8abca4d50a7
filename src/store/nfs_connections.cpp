// See nfs_connections.h.
#include "store/nfs_connections.h"

#include <algorithm>

namespace farswap::nfs {

Connections::Connections(std::uint32_t count, io::Loop& loop, const Address& address,
                         const std::function<std::unique_ptr<Protocol>()>& make_protocol,
                         const std::string& server, std::uint32_t write_max, Connection::Watcher& watcher,
                         const ConnectionLimits& limits) {
    for (std::uint32_t i = 0; i < count; ++i) {
        auto protocol = make_protocol();
        auto connection =
            std::make_unique<Connection>(loop, address, *protocol, server, write_max, watcher, i, limits);
        members_.push_back({std::move(protocol), std::move(connection)});
    }
}

/// One that is up, if there is one with room: what waits on another comes when that is up again.
Call* Connections::take(bool internal) noexcept {
    if (internal) return members_.front().connection->take(true);
    Connection* best = nullptr;
    const auto rank = [](const Connection& connection) {
        return std::pair(connection.is_up(), connection.free_entries());
    };
    for (const Member& member : members_) {
        if (member.connection->free_entries() == 0) continue;
        if (best == nullptr || rank(*member.connection) > rank(*best)) best = member.connection.get();
    }
    return best == nullptr ? nullptr : best->take(false);
}

void Connections::release_sends() noexcept {
    for (const Member& member : members_) member.connection->release_sends();
}

bool Connections::abandoned_write_overlaps(std::uint64_t offset, std::uint64_t length) const noexcept {
    return std::ranges::any_of(members_, [&](const Member& member) {
        return member.connection->abandoned_write_overlaps(offset, length);
    });
}

Connection::Counters Connections::counters() const noexcept {
    Connection::Counters sum;
    for (const Member& member : members_) sum += member.connection->counters();
    return sum;
}

}  // namespace farswap::nfs
