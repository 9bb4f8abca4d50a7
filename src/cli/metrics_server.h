// Serves a page of text over HTTP/1.1 (RFC 9112) to those who scrape metrics, on loopback or a Unix socket,
// in a loop. Knows nothing of what the page says.
#pragma once

#include <functional>
#include <list>
#include <string>

#include "base/fd.h"
#include "base/result.h"
#include "io/loop.h"

namespace farswap::cli {

/// The socket behind --metrics, listening; a Unix socket is removed at the end.
class MetricsListener {
  public:
    /// "127.0.0.1:PORT", "[::1]:PORT" or "unix:PATH". EINVAL: another address. EADDRINUSE and others: it
    /// cannot listen there. A Unix socket that nobody listens on any more is replaced.
    static Result<MetricsListener> open(const std::string& address);
    MetricsListener() = default;
    MetricsListener(MetricsListener&& other) noexcept = default;
    MetricsListener& operator=(MetricsListener&& other) noexcept = default;
    ~MetricsListener();

    int fd() const { return socket_.get(); }
    explicit operator bool() const { return bool(socket_); }

  private:
    Fd socket_;
    std::string path_;  ///< of a Unix socket
};

/// What is to be answered to the bytes that came so far; empty: more of them must come.
std::string http_answer(std::string_view request, const std::function<std::string()>& page);

/// One thread: the loop's. Never blocks; a client that is slow is hung up on.
class MetricsServer {
  public:
    /// The listener outlives it.
    MetricsServer(io::Loop& loop, const MetricsListener& listener, std::function<std::string()> page);
    ~MetricsServer();
    MetricsServer(const MetricsServer&) = delete;
    MetricsServer& operator=(const MetricsServer&) = delete;

  private:
    struct Client {
        MetricsServer* server = nullptr;
        Fd socket;
        io::Watch watch;
        io::Clock::time_point until;
        std::string request, answer;
        std::size_t sent = 0;
    };
    void accept_client();
    void client_ready(Client& client);
    void drop(Client& client);
    void drop_the_slow();

    io::Loop& loop_;
    std::function<std::string()> page_;
    int listener_;
    io::Watch watch_;
    io::Timer timer_;
    std::list<Client> clients_;
};

}  // namespace farswap::cli
