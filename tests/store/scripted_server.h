// An NFS server that answers READ, WRITE and COMMIT as a test says, on threads of its own: for what a real
// one does once in a year. Knows the calls' bytes only as far as it needs.
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "base/fd.h"
#include "store/nfs_connection.h"

namespace farswap::test {

class ScriptedServer {
  public:
    struct Call {
        nfs::Procedure procedure{};
        std::uint32_t xid = 0;
        std::uint64_t offset = 0;
        std::uint32_t count = 0;
    };
    /// `status` is an nfsstat3; the verifier is for WRITE and COMMIT. READ gives zeros, or a lease.
    struct Answer {
        std::uint32_t status = 0;
        std::uint8_t verifier = 1;  ///< its first byte
        std::uint64_t lease_nonce = 0;
        bool malformed = false;  ///< what comes is no reply
        std::uint32_t less = 0;  ///< READ and WRITE: so many bytes fewer than were asked for
        bool stable = false;     ///< WRITE: it has reached the disk already
        // READ:
        bool counting = false;    ///< each byte is the low byte of its offset divided by 8
        bool attributes = false;  ///< the reply has the file's attributes
    };
    /// Nothing: the call is never answered. Called on a connection's thread, and may block.
    using Script = std::function<std::optional<Answer>(const Call&)>;

    explicit ScriptedServer(Script script);
    ~ScriptedServer();
    ScriptedServer(const ScriptedServer&) = delete;
    ScriptedServer& operator=(const ScriptedServer&) = delete;

    nfs::Address address() const { return address_; }
    std::uint16_t port() const;
    /// Breaks the connections that there are.
    void disconnect();

  private:
    void accept();
    void serve(int fd) const;

    Script script_;
    nfs::Address address_;
    Fd listener_;
    std::mutex mutex_;
    std::vector<Fd> connections_;       ///< guarded by mutex_
    std::vector<std::thread> servers_;  ///< one a connection; the acceptor's alone until it has ended
    std::thread acceptor_;
};

}  // namespace farswap::test
