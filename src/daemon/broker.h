// Divides the machine's budget between jobs, in a process of its own without any capability. Reads nothing
// that a stranger has sent but through a relay; what is decided is the ledger's.
#pragma once

#include <map>
#include <string>

#include "base/fd.h"
#include "daemon/config.h"
#include "daemon/ledger.h"

namespace farswap::daemon {

struct BrokerLimits {
    std::size_t connections_max = 256;        ///< those beyond are not accepted yet
    std::size_t connections_beside_jobs = 8;  ///< of a user, beside those of his jobs
    std::chrono::seconds first_word_max{5};   ///< then who has said nothing is hung up on
};

/// One thread. Owns the socket.
class Broker {
  public:
    /// `config` was read from `file`, which is read again by SIGHUP. One with a mistake is that until then.
    Broker(Fd listener, std::string file, Config config, const BrokerLimits& limits = {})
        : listener_(std::move(listener)),
          file_(std::move(file)),
          limits_(limits),
          ledger_(std::move(config)) {}

    /// Serves until SIGTERM or SIGINT, which it blocks, as SIGHUP and SIGCHLD, for this purpose.
    Status run();

  private:
    struct Link {
        Fd socket;  ///< to its relay
        Peer peer;
        bool is_over = false;
    };
    void reload();
    void accept_clients();
    Status judge(const Peer& peer) const;
    bool start_relay(Fd client, const Peer& peer, const Status& verdict);
    void take_message(Ledger::Id id, Link& link);
    void tell();
    void send(Link& link, const cli::ShareReply& reply);
    void bury();
    std::size_t links_of(uid_t user) const;

    Fd listener_;
    std::string file_;
    BrokerLimits limits_;
    Ledger ledger_;
    std::map<Ledger::Id, Link> links_;
    Ledger::Id next_ = 1;
    bool short_of_something_ = false;  ///< descriptors, processes: accept again later
};

}  // namespace farswap::daemon
