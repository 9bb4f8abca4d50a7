// Serves the page; see metrics_server.h.
#include "cli/metrics_server.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <charconv>
#include <cstring>

#include "base/no_allocation.h"

namespace farswap::cli {

namespace {

constexpr int kWaiting = 16;  // connections that are not accepted yet
constexpr std::size_t kClientsMax = 16;
constexpr std::size_t kRequestMax = 8 << 10;
constexpr std::chrono::seconds kClientLimit{10};
constexpr std::string_view kUnix = "unix:";

Error unfit(const std::string& address) {
    return Error{EINVAL, fmt::format("--metrics {}: no address of this machine alone; write 127.0.0.1:PORT, "
                                     "[::1]:PORT or unix:PATH",
                                     address)};
}

Result<Fd> listen_at(const std::string& name, const sockaddr* address, socklen_t length) {
    Fd fd(socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const int on = 1;
    // Else a port is taken for a minute after its last connection.
    if (fd && address->sa_family != AF_UNIX) setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (fd && bind(fd.get(), address, length) == 0 && listen(fd.get(), kWaiting) == 0) return fd;
    if (errno == EADDRINUSE)
        return fail(EADDRINUSE, "--metrics {}: somebody listens there already; choose another", name);
    return fail_errno(errno, "--metrics {}: cannot listen there", name);
}

/// Removes a socket that nobody listens on any more.
Status make_way(const std::string& name, const sockaddr_un& address) {
    struct stat status {};
    if (lstat(address.sun_path, &status) != 0) return {};
    if (!S_ISSOCK(status.st_mode)) return fail(EEXIST, "--metrics {}: there is a file, and no socket", name);
    const Fd probe(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 &&
        errno == ECONNREFUSED)
        unlink(address.sun_path);
    return {};
}

Result<Fd> listen_at_path(const std::string& name, const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.empty() || path.size() >= sizeof address.sun_path)
        return fail(EINVAL, "--metrics {}: a path of 1 to {} bytes is wanted", name,
                    sizeof address.sun_path - 1);
    std::memcpy(address.sun_path, path.c_str(), path.size());
    if (auto made = make_way(name, address); !made) return std::unexpected(made.error());
    return listen_at(name, reinterpret_cast<const sockaddr*>(&address), sizeof address);
}

Result<Fd> listen_at_port(const std::string& name) {
    const auto colon = name.rfind(':');
    std::uint16_t port = 0;
    if (colon == std::string::npos) return std::unexpected(unfit(name));
    const char* const end = name.data() + name.size();
    const auto parsed = std::from_chars(name.data() + colon + 1, end, port);
    if (parsed.ec != std::errc() || parsed.ptr != end || port == 0) return std::unexpected(unfit(name));
    const auto host = name.substr(0, colon);
    sockaddr_in four{};
    if (inet_pton(AF_INET, host.c_str(), &four.sin_addr) == 1 && ntohl(four.sin_addr.s_addr) >> 24 == 127) {
        four.sin_family = AF_INET;
        four.sin_port = htons(port);
        return listen_at(name, reinterpret_cast<const sockaddr*>(&four), sizeof four);
    }
    if (host == "[::1]") {
        sockaddr_in6 six{};
        six.sin6_family = AF_INET6;
        six.sin6_port = htons(port);
        six.sin6_addr = in6addr_loopback;
        return listen_at(name, reinterpret_cast<const sockaddr*>(&six), sizeof six);
    }
    return std::unexpected(unfit(name));
}

std::string answer_with(std::string_view status, std::string_view body, bool with_body = true) {
    return fmt::format(
        "HTTP/1.1 {}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
        "Content-Length: {}\r\nConnection: close\r\n\r\n{}",
        status, body.size(), with_body ? body : std::string_view());
}

}  // namespace

Result<MetricsListener> MetricsListener::open(const std::string& address) {
    MetricsListener listener;
    const bool is_path = address.starts_with(kUnix);
    const auto path = is_path ? address.substr(kUnix.size()) : std::string();
    auto fd = is_path ? listen_at_path(address, path) : listen_at_port(address);
    if (!fd) return std::unexpected(fd.error());
    listener.socket_ = std::move(*fd);
    listener.path_ = path;
    return listener;
}

MetricsListener::~MetricsListener() {
    if (socket_ && !path_.empty()) unlink(path_.c_str());
}

std::string http_answer(std::string_view request, const std::function<std::string()>& page) {
    if (request.find("\r\n\r\n") == std::string_view::npos)
        return request.size() < kRequestMax
                   ? ""
                   : answer_with("431 Request Header Fields Too Large", "too long\n");
    const auto line = request.substr(0, request.find("\r\n"));
    const auto first = line.find(' '), second = line.rfind(' ');
    if (first == second || first == std::string_view::npos || !line.substr(second + 1).starts_with("HTTP/1."))
        return answer_with("400 Bad Request", "that is no request\n");
    const auto method = line.substr(0, first);
    auto target = line.substr(first + 1, second - first - 1);
    target = target.substr(0, target.find('?'));
    if (method != "GET" && method != "HEAD") return answer_with("405 Method Not Allowed", "GET only\n");
    if (target != "/metrics") return answer_with("404 Not Found", "there is /metrics\n", method == "GET");
    return answer_with("200 OK", page(), method == "GET");
}

MetricsServer::MetricsServer(io::Loop& loop, const MetricsListener& listener,
                             std::function<std::string()> page)
    : loop_(loop), page_(std::move(page)), listener_(listener.fd()) {
    watch_ = {.fd = listener_,
              .ready = [](io::Watch& watch,
                          std::uint32_t) { static_cast<MetricsServer*>(watch.owner)->accept_client(); },
              .owner = this};
    loop_.add(watch_);
    timer_.owner = this;
    timer_.fire = [](io::Timer& timer) { static_cast<MetricsServer*>(timer.owner)->drop_the_slow(); };
}

MetricsServer::~MetricsServer() {
    loop_.cancel(timer_);
    for (auto& client : clients_) loop_.remove(client.watch);
    loop_.remove(watch_);
}

void MetricsServer::accept_client() {
    const MayAllocate asked("somebody else asks");
    Fd socket(accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket || clients_.size() >= kClientsMax) return;
    Client& client = clients_.emplace_back();
    client.server = this;
    client.socket = std::move(socket);
    client.until = io::Clock::now() + kClientLimit;
    client.watch = {.fd = client.socket.get(),
                    .ready =
                        [](io::Watch& watch, std::uint32_t) {
                            auto& one = *static_cast<Client*>(watch.owner);
                            one.server->client_ready(one);
                        },
                    .owner = &client};
    loop_.add(client.watch);
    if (!timer_.armed()) loop_.arm(timer_, client.until);
}

void MetricsServer::client_ready(Client& client) {
    const MayAllocate asked("somebody else asks");
    if (client.answer.empty()) {
        char bytes[2048];
        const auto got = recv(client.socket.get(), bytes, sizeof bytes, 0);
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
        if (got <= 0) return drop(client);
        client.request.append(bytes, static_cast<std::size_t>(got));
        client.answer = http_answer(client.request, page_);
        if (client.answer.empty()) return;
        loop_.modify(client.watch, EPOLLOUT);
    }
    const auto rest = std::string_view(client.answer).substr(client.sent);
    const auto put = send(client.socket.get(), rest.data(), rest.size(), MSG_NOSIGNAL);
    if (put < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (put < 0) return drop(client);
    client.sent += static_cast<std::size_t>(put);
    if (client.sent == client.answer.size()) drop(client);
}

void MetricsServer::drop(Client& client) {
    loop_.remove(client.watch);
    clients_.remove_if([&](const Client& one) { return &one == &client; });
}

void MetricsServer::drop_the_slow() {
    const MayAllocate asked("somebody else asks");
    // In the order in which they came.
    while (!clients_.empty() && clients_.front().until <= io::Clock::now()) drop(clients_.front());
    if (!clients_.empty()) loop_.arm(timer_, clients_.front().until);
}

}  // namespace farswap::cli
