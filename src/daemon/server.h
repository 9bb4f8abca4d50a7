// Takes connections, decides who is served, and has each served by a process of its own. Reads nothing of
// what clients send.
#pragma once

#include <chrono>
#include <list>
#include <map>

#include "base/fd.h"
#include "daemon/access.h"
#include "daemon/listener.h"

namespace farswap::daemon {

struct Limits {
    std::size_t served_per_user_max = 8;    ///< at once; the others of that user wait
    std::size_t waiting_per_user_max = 64;  ///< those beyond are refused
    std::size_t waiting_max = 256;          ///< of all users; those beyond are not accepted yet
    std::chrono::seconds client_max{5};     ///< then the process that serves it is ended
};

/// One thread. Owns the socket.
class Server {
  public:
    /// `broker`: a child process that gets the SIGHUPs, and without which we do not go on; 0: there is none.
    Server(Listener listener, const Limits& limits, pid_t broker = 0)
        : listener_(std::move(listener)), limits_(limits), broker_(broker) {}

    /// Serves until SIGTERM or SIGINT, which it blocks, as SIGHUP and SIGCHLD, for this purpose.
    Status run();

  private:
    struct Waiting {
        Fd socket;
        Peer peer;
        Status verdict;  ///< whether it is served, or why not
    };
    bool is_full() const { return waiting_.size() >= limits_.waiting_max; }
    void accept_clients();
    Status judge(const Peer& peer) const;
    void start_waiting();
    bool start(Waiting& client);
    void reload() const;
    Status collect_children();
    std::size_t served(uid_t user) const;

    Listener listener_;
    Limits limits_;
    pid_t broker_;
    std::list<Waiting> waiting_;
    struct Served {
        uid_t user = 0;
        bool is_served = false;  ///< not refused
    };
    std::map<pid_t, Served> children_;
    bool short_of_something_ = false;  ///< descriptors, processes: accept again later
};

}  // namespace farswap::daemon
