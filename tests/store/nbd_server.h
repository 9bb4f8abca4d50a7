// nbdkit on a Unix socket, started and killed by a test.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace farswap::test {

/// Runs until stop(), kill() or the destructor, and ends with this process whatever happens.
class NbdServer {
  public:
    /// `arguments` of nbdkit, plugin and filters included, e.g. {"memory", "64M"}. Started at once.
    explicit NbdServer(std::vector<std::string> arguments);
    ~NbdServer();
    NbdServer(const NbdServer&) = delete;
    NbdServer& operator=(const NbdServer&) = delete;

    /// Waits until the socket takes connections.
    void start();
    /// SIGKILL, waited for.
    void kill();
    void restart() {
        kill();
        start();
    }
    const std::string& socket() const { return socket_; }
    const std::string& directory() const { return directory_; }
    std::string url(const std::string& options = "") const {
        return "nbd+unix:///?socket=" + socket_ + options;
    }

  private:
    std::vector<std::string> arguments_;
    std::string directory_, socket_;
    pid_t pid_ = -1;
};

bool nbd_server_available();

}  // namespace farswap::test
