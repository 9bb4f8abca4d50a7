// See nfs_server.h.
#include "nfs_server.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <fstream>
#include <stdexcept>

namespace farswap::test {
namespace {

constexpr const char* kScript = FARSWAP_SOURCE_DIR "/script/lib/ganesha.sh";

sockaddr_in loopback(std::uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

void reset_on_close(int fd) {
    const linger reset{.l_onoff = 1, .l_linger = 0};
    ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
}

}  // namespace

bool nfs_server_available() {
    return ::geteuid() == 0 && std::system("command -v ganesha.nfsd >/dev/null") == 0;
}

NfsServer::NfsServer(const std::vector<std::string>& exports) {
    std::string name = (std::filesystem::temp_directory_path() / "farswap-nfs-test.XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp");
    directory_ = name;
    std::string arguments;
    for (const std::string& spec : exports)
        arguments += fmt::format(" --export '{}'", (directory_ / spec).string());
    script("start", arguments);
    std::ifstream env(directory_ / "env");
    for (std::string line; std::getline(env, line);) {
        const auto value = line.substr(line.find('=') + 1);
        if (line.starts_with("GANESHA_NFS_PORT=")) nfs_port_ = static_cast<std::uint16_t>(std::stoi(value));
        if (line.starts_with("GANESHA_MOUNT_PORT="))
            mount_port_ = static_cast<std::uint16_t>(std::stoi(value));
    }
}

NfsServer::~NfsServer() {
    const auto command = fmt::format("{} stop '{}'", kScript, directory_.string());
    if (std::system(command.c_str()) == 0) std::filesystem::remove_all(directory_);
}

void NfsServer::script(const std::string& command, const std::string& arguments) const {
    const auto line =
        fmt::format("{} {} '{}'{} >/dev/null", kScript, command, directory_.string(), arguments);
    if (std::system(line.c_str()) != 0) throw std::runtime_error("failed: " + line);
}

void NfsServer::kill() {
    script("kill");
}
void NfsServer::restart() {
    script("restart");
}

std::string NfsServer::url(const std::string& name, const std::string& more) const {
    return fmt::format("nfs://127.0.0.1{}?version={}&nfsport={}&mountport={}{}", path(name).string(), version,
                       nfs_port_, mount_port_, more);
}

std::string NfsServer::url_by_port(std::uint16_t nfs_port, const std::string& more) const {
    return fmt::format("nfs://127.0.0.1{}?version={}&nfsport={}&mountport={}{}", path("export").string(),
                       version, nfs_port, mount_port_, more);
}

Proxy::Proxy(std::uint16_t to_port) : to_port_(to_port) {
    listener_.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    wake_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    auto address = loopback(0);
    socklen_t size = sizeof address;
    if (::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), size) != 0 ||
        ::listen(listener_.get(), 8) != 0 ||
        ::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0) {
        throw std::runtime_error("cannot listen");
    }
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { run(); });
}

Proxy::~Proxy() {
    stop_ = true;
    poke();
    thread_.join();
}

void Proxy::poke() const {
    (void)::eventfd_write(wake_.get(), 1);
}

void Proxy::set(std::atomic<bool>& flag, bool value) {
    flag = value;
    poke();
}

void Proxy::cut_after(std::int64_t reply_bytes) {
    cut_after_ = reply_bytes;
}

void Proxy::cut() {
    set(cut_, true);
}

/// False: the pair is to be closed.
bool Proxy::forward(Pair& pair, bool from_server) {
    std::array<char, 64 * 1024> buffer;
    const int from = (from_server ? pair.server : pair.client).get();
    const int to = (from_server ? pair.client : pair.server).get();
    std::size_t most = buffer.size();
    const std::int64_t cut = cut_after_;
    if (from_server && cut >= 0) most = std::min(most, static_cast<std::size_t>(cut));
    const ssize_t count = most == 0 ? 0 : ::recv(from, buffer.data(), most, 0);
    if (count > 0) {
        for (ssize_t sent = 0; sent < count;) {
            const ssize_t part =
                ::send(to, buffer.data() + sent, static_cast<std::size_t>(count - sent), MSG_NOSIGNAL);
            if (part <= 0) return false;
            sent += part;
        }
        if (from_server && cut >= 0) cut_after_ = cut - count;
        return true;
    }
    if (from_server && cut == 0) cut_after_ = -1;
    return false;
}

void Proxy::run() {
    while (!stop_) {
        std::vector<pollfd> polls{{listener_.get(), POLLIN, 0}, {wake_.get(), POLLIN, 0}};
        for (const Pair& pair : pairs_) {
            polls.push_back({hold_requests_ ? -1 : pair.client.get(), POLLIN, 0});
            polls.push_back({hold_replies_ ? -1 : pair.server.get(), POLLIN, 0});
        }
        ::poll(polls.data(), polls.size(), -1);
        eventfd_t ignored;
        if (polls[1].revents != 0) ::eventfd_read(wake_.get(), &ignored);
        // Looked at after the poll: whoever cuts and then releases what was held must not see it forwarded.
        const bool cut = cut_.exchange(false);
        for (std::size_t i = pairs_.size(); i-- > 0;) {
            bool good = !cut;
            if (good && polls[2 + 2 * i].revents != 0) good = forward(pairs_[i], false);
            if (good && polls[3 + 2 * i].revents != 0) good = forward(pairs_[i], true);
            if (!good) {
                reset_on_close(pairs_[i].client.get());
                pairs_.erase(pairs_.begin() + static_cast<std::ptrdiff_t>(i));
            }
        }
        if (polls[0].revents != 0) {
            Pair pair{Fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC)),
                      Fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0))};
            const auto address = loopback(to_port_);
            ++accepted_;
            if (::connect(pair.server.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) ==
                0) {
                pairs_.push_back(std::move(pair));
            }
        }
    }
}

}  // namespace farswap::test
