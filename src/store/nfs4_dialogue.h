// A connection to an NFSv4.1 server for one call at a time: blocking, in a session of its own with one slot,
// every call bounded by one deadline. Knows COMPOUNDs and their replies, not what they are for.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "store/nfs4_wire.h"
#include "store/nfs_control.h"

namespace farswap::nfs::v4 {

class Dialogue {
  public:
    /// Connects and makes a session. ECONNREFUSED, ETIMEDOUT, EPROTONOSUPPORT (no NFSv4.1 there).
    static Result<std::unique_ptr<Dialogue>> connect(const Server& server, Deadline deadline);
    /// Makes a session on a socket that is connected and does not block. `xid` is the number before the first
    /// call's; of `server` only the credential matters.
    static Result<std::unique_ptr<Dialogue>> begin(Fd connected, const Server& server, Deadline deadline,
                                                   std::uint32_t xid);
    /// Ends the session and the client with it, where the server answers soon.
    ~Dialogue();
    Dialogue(const Dialogue&) = delete;
    Dialogue& operator=(const Dialogue&) = delete;

    void set_deadline(Deadline deadline) noexcept { deadline_ = deadline; }
    bool broken() const noexcept { return !fd_; }
    Result<Address> peer() const;
    const Channel& channel() const noexcept { return session_.channel; }
    const ClientId& client() const noexcept { return client_; }

    /// Adds operations behind SEQUENCE. `data` of run() follow the last one's arguments.
    using Put = std::function<void(Compound& call)>;
    /// Reads their results. -> whether all succeeded.
    using Take = std::function<bool(CompoundReply& reply, xdr::Reader& reader)>;
    /// Runs one COMPOUND, again and again while the server asks for patience. A refusal has `what` in front.
    Status run(const char* what, const Put& put, const Take& take, std::span<const std::byte> data = {});

  private:
    Dialogue(const Server& server, Deadline deadline, std::uint32_t xid);

    Status open(const std::string& host, int port);
    Status open_address(const Address& address);
    Status make_session();
    Status step(const char* what, const Put& put, const Take& take);
    Status be_patient(const char* what);
    void end_session();

    Result<std::span<const std::byte>> exchange(const char* what, std::span<const std::byte> call,
                                                std::span<const std::byte> data);
    Status send(std::span<const std::byte> call, std::span<const std::byte> data);
    Status receive_record();
    Status receive(std::span<std::byte> into);
    Status wait_for(short events);

    Fd fd_;
    Deadline deadline_;
    std::string machine_;
    std::array<std::byte, kRpcCallMax> prefix_;
    std::uint32_t prefix_size_;
    std::uint32_t xid_;
    ClientId client_;
    Session session_;
    bool in_session_ = false;
    std::uint32_t sequence_ = 0;  ///< of the last call that the slot has executed
    std::vector<std::byte> call_, reply_;
};

}  // namespace farswap::nfs::v4
