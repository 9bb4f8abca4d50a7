// A connection to an NFSv4.1 server for one call at a time: blocking, in a session of its own with one slot,
// every call bounded by one deadline. Knows COMPOUNDs and their replies, not what they are for.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "store/nfs4_wire.h"
#include "store/nfs_control.h"
#include "store/nfs_rpc_connection.h"

namespace farswap::nfs::v4 {

class Dialogue {
  public:
    /// Connects and makes a session. ECONNREFUSED, ETIMEDOUT, EPROTONOSUPPORT (no NFSv4.1 there).
    static Result<std::unique_ptr<Dialogue>> connect(const Server& server, Deadline deadline);
    /// Makes a session over a connection; of `server` only the credential matters.
    static Result<std::unique_ptr<Dialogue>> begin(RpcConnection connected, const Server& server);
    /// Ends the session and the client with it, where the server answers soon.
    ~Dialogue();
    Dialogue(const Dialogue&) = delete;
    Dialogue& operator=(const Dialogue&) = delete;

    void set_deadline(Deadline deadline) noexcept { connection_.set_deadline(deadline); }
    bool broken() const noexcept { return connection_.broken(); }
    Result<Address> peer() const { return connection_.peer(); }
    const Channel& channel() const noexcept { return session_.channel; }
    const ClientId& client() const noexcept { return client_; }

    /// Adds operations behind SEQUENCE. `data` of run() follow the last one's arguments.
    using Put = std::function<void(Compound& call)>;
    /// Reads their results. -> whether all succeeded.
    using Take = std::function<bool(CompoundReply& reply, xdr::Reader& reader)>;
    /// Runs one COMPOUND, again and again while the server asks for patience. A refusal has `what` in front.
    Status run(const char* what, const Put& put, const Take& take, std::span<const std::byte> data = {});

  private:
    Dialogue(RpcConnection connection, const Server& server);

    Status make_session();
    Status step(const char* what, const Put& put, const Take& take);
    void end_session();

    RpcConnection connection_;
    std::string machine_;
    std::array<std::byte, kRpcCallMax> prefix_;
    std::uint32_t prefix_size_;
    ClientId client_;
    Session session_;
    bool in_session_ = false;
    std::uint32_t sequence_ = 0;  ///< of the last call that the slot has executed
    std::vector<std::byte> call_;
};

}  // namespace farswap::nfs::v4
