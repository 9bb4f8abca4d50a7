// Calls of one RPC program by AUTH_SYS, one at a time. Knows heads of calls and replies, no procedure.
#pragma once

#include <array>
#include <cerrno>
#include <cstdint>
#include <functional>
#include <span>
#include <utility>

#include "base/result.h"
#include "store/nfs_rpc.h"
#include "store/nfs_rpc_connection.h"
#include "store/xdr.h"

namespace farswap::nfs {

struct Program {
    std::uint32_t number = 0, version = 0;
};

/// Used by one thread.
class RpcClient {
  public:
    /// Writes the arguments, of kArgumentsMax bytes at most.
    using Put = std::function<void(xdr::Writer& out)>;
    /// Reads the results. False: they make no sense. (That bytes are missing is noticed without it.)
    using Take = std::function<bool(xdr::Reader& reader)>;
    static constexpr std::size_t kArgumentsMax = 2048;  ///< bytes: two handles and a path, with room to spare

    RpcClient(RpcConnection connection, const Program& program, const Credential& credential);

    /// The NULL procedure, which every program has: whether the service is there and speaks that version.
    Status ping(const char* what);
    /// Makes one call. EPROTONOSUPPORT (no such program, version or procedure there), EACCES, EPROTO (a reply
    /// that cannot be decoded: the connection is gone), ECONNRESET, ETIMEDOUT.
    Status call(const char* what, std::uint32_t procedure, const Put& put, const Take& take);

    RpcConnection& connection() noexcept { return connection_; }
    const RpcConnection& connection() const noexcept { return connection_; }

  private:
    RpcConnection connection_;
    std::array<std::byte, kRpcCallMax + kArgumentsMax> call_{};
    std::uint32_t head_size_;
};

}  // namespace farswap::nfs
