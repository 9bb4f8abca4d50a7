// The connections that calls of one direction share (`nconnect=`), with the face of a single one. Knows which
// has room; nothing of what is called.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "store/nfs_connection.h"

namespace farswap::nfs {

/// Each call goes over the connection that has the fewest in flight, as one TCP connection is served by one
/// thread of many servers and of both kernels. All in the loop's thread; allocates nothing after
/// construction.
class Connections {
  public:
    /// Each has a protocol of its own; the rest as Connection::Connection().
    Connections(std::uint32_t count, io::Loop& loop, const Address& address,
                const std::function<std::unique_ptr<Protocol>()>& make_protocol, const std::string& server,
                std::uint32_t write_max, Connection::Watcher& watcher, const ConnectionLimits& limits = {});

    /// As Connection::take(); the store's own calls go over the first, in order.
    Call* take(bool internal) noexcept;
    void submit(Call& call) noexcept { of(call).submit(call); }
    void release(Call& call) noexcept { of(call).release(call); }
    void abandon(Call& call) noexcept { of(call).abandon(call); }
    void release_sends() noexcept;
    bool abandoned_write_overlaps(std::uint64_t offset, std::uint64_t length) const noexcept;
    Connection::Counters counters() const noexcept;

    std::uint32_t size() const noexcept { return static_cast<std::uint32_t>(members_.size()); }

  private:
    struct Member {
        std::unique_ptr<Protocol> protocol;
        std::unique_ptr<Connection> connection;
    };
    Connection& of(const Call& call) noexcept { return *members_[call.connection].connection; }

    std::vector<Member> members_;
};

}  // namespace farswap::nfs
