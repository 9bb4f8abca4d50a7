// A TCP connection to an RPC service for one call at a time: blocking, all calls bounded by one deadline.
// Knows records and numbers of calls, no program.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "store/nfs_socket.h"

namespace farswap::nfs {

using Deadline = std::chrono::steady_clock::time_point;

/// Used by one thread. Nothing that a server sends makes it hold more than kReplyMax bytes.
class RpcConnection {
  public:
    static constexpr std::uint32_t kReplyMax = 2u << 20;  ///< bytes; more than any reply that we ask for
    enum class LocalPort : std::uint8_t { kAny, kReserved };

    /// Not connected yet.
    explicit RpcConnection(Deadline deadline);
    /// On a socket that is connected and does not block. `xid` is the number before the first call's.
    RpcConnection(Fd connected, Deadline deadline, std::uint32_t xid);

    /// Connects to the first of the host's addresses that takes it. EHOSTUNREACH (no such host),
    /// ECONNREFUSED, ETIMEDOUT.
    Status open(const std::string& host, int port, LocalPort local);
    /// Connects to the first of these that takes it. Each has its share of the time that is left when its
    /// turn comes: one that swallows what is sent to it leaves some for the others.
    Status open(std::span<const Address> addresses, LocalPort local);

    void set_deadline(Deadline deadline) noexcept { deadline_ = deadline; }
    Deadline deadline() const noexcept { return deadline_; }
    bool broken() const noexcept { return !fd_; }
    void close() noexcept { fd_.reset(); }
    /// ENOTCONN.
    Result<Address> peer() const;

    /// The number that the next call has to have; each is given out once.
    std::uint32_t next_xid() noexcept { return ++xid_; }
    /// Sends the call of the last number, record mark included, with `data` and its padding behind it, and
    /// waits for the reply: its bytes from the number on, valid until the next call. `what` stands in front
    /// of an error, after which the connection is gone. EPROTO: what came is no reply to this call.
    Result<std::span<const std::byte>> exchange(const char* what, std::span<const std::byte> call,
                                                std::span<const std::byte> data = {});
    /// EPROTO; the connection is gone, as nothing that comes over it can be trusted to be what it seems.
    std::unexpected<Error> malformed(const char* what) noexcept;
    /// Waits a moment before a call that the server has put off is made again. ETIMEDOUT where there is no
    /// time left.
    Status be_patient(const char* what) const;

  private:
    Status open_address(const Address& address, LocalPort local);
    Status send(std::span<const std::byte> call, std::span<const std::byte> data);
    Status receive_record();
    Status receive(std::span<std::byte> into);
    Status wait_for(short events);

    Fd fd_;
    Deadline deadline_;
    std::uint32_t xid_;
    std::vector<std::byte> reply_;
};

}  // namespace farswap::nfs
