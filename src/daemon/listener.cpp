#include "daemon/listener.h"

#include <fcntl.h>
#include <grp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <charconv>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "cli/share_protocol.h"

namespace farswap::daemon {
namespace {

constexpr const char* kUsualGroup = "farswap";
constexpr int kFirstPassed = 3;  // SD_LISTEN_FDS_START
constexpr int kQueued = 64;      // connections that are not accepted yet

/// The sockets that systemd has passed: LISTEN_FDS of them, if LISTEN_PID is this process. -1: it has not.
struct Passed {
    int helper = -1, budget = -1;
};

/// Whether it is the one for shares of the budget, by the end of its path.
bool is_for_shares(int fd) {
    sockaddr_un address{};
    socklen_t size = sizeof address;
    if (getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) return false;
    return std::string_view(address.sun_path, strnlen(address.sun_path, sizeof address.sun_path))
        .ends_with(cli::kBudgetSuffix);
}

Result<Passed> passed_sockets() {
    const auto number = [](const char* name) {
        const char* text = getenv(name);
        int value = 0;
        if (text != nullptr) std::from_chars(text, text + std::strlen(text), value);
        return value;
    };
    Passed passed;
    if (number("LISTEN_PID") != getpid()) return passed;
    for (int fd = kFirstPassed; fd < kFirstPassed + number("LISTEN_FDS"); ++fd) {
        int type = 0;
        socklen_t size = sizeof type;
        if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) != 0 || type != SOCK_SEQPACKET)
            return fail(EINVAL, "the socket that systemd passes needs ListenSequentialPacket=");
        int& place = is_for_shares(fd) ? passed.budget : passed.helper;
        if (place >= 0)
            return fail(EINVAL, "systemd passes {} sockets, not one for the helper and one for the budget",
                        number("LISTEN_FDS"));
        place = fd;
    }
    return passed;
}

Fd taken_over(int fd) {
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return Fd(fd);
}

Result<std::optional<gid_t>> group_of(const std::optional<std::string>& name) {
    const group* entry = getgrnam(name ? name->c_str() : kUsualGroup);
    if (entry != nullptr) return entry->gr_gid;
    if (name) return fail(ENOENT, "--group {}: there is no such group", *name);
    return std::optional<gid_t>();
}

/// Removes the socket of a farswapd that is gone.
Status make_way(const sockaddr_un& address) {
    struct stat status {};
    if (lstat(address.sun_path, &status) != 0) return {};
    if (!S_ISSOCK(status.st_mode)) return fail(EEXIST, "{} is there, and no socket", address.sun_path);
    const Fd probe(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!probe) return fail_errno(errno, "cannot make a socket");
    if (connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 ||
        errno != ECONNREFUSED)
        return fail(EADDRINUSE, "{}: somebody listens there already", address.sun_path);
    unlink(address.sun_path);
    return {};
}

Result<Fd> make_socket(const std::string& path, mode_t mode, std::optional<gid_t> group) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.empty() || path.size() >= sizeof address.sun_path)
        return fail(EINVAL, "--socket {}: a path of 1 to {} bytes is wanted", path,
                    sizeof address.sun_path - 1);
    std::memcpy(address.sun_path, path.c_str(), path.size());
    if (auto made = make_way(address); !made) return std::unexpected(made.error());
    Fd fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd) return fail_errno(errno, "no socket");
    // Nobody else may connect before its group and its mode are right.
    const mode_t before = umask(0177);
    const bool bound = bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
    const int code = errno;
    umask(before);
    if (!bound) return fail_errno(code, "cannot listen at {}", path);
    if ((group && chown(path.c_str(), static_cast<uid_t>(-1), *group) != 0) ||
        chmod(path.c_str(), mode) != 0 || listen(fd.get(), kQueued) != 0)
        return fail_errno(errno, "cannot listen at {}", path);
    return fd;
}

}  // namespace

Result<Listener> listen_for_clients(const Options& options) {
    const auto passed = passed_sockets();
    if (!passed) return std::unexpected(passed.error());
    Listener listener;
    listener.access.users = options.users;
    const bool is_ours = passed->helper < 0;
    if (is_ours || options.group) {
        const auto group = group_of(options.group);
        if (!group) return std::unexpected(group.error());
        listener.access.group = *group;
    }
    if (!is_ours) {
        listener.access.anybody = !options.group && options.users.empty();
        listener.socket = taken_over(passed->helper);
        return listener;
    }
    // A single user has no mode of his own: all may connect, and are looked at then.
    const mode_t mode = !options.users.empty() ? 0666 : listener.access.group ? 0660 : 0600;
    auto made = make_socket(options.socket, mode, listener.access.group);
    if (!made) return std::unexpected(made.error());
    listener.socket = std::move(*made);
    return listener;
}

Result<Fd> listen_for_shares(const Options& options, bool is_wanted) {
    const auto passed = passed_sockets();
    if (!passed) return std::unexpected(passed.error());
    if (passed->budget >= 0) return taken_over(passed->budget);
    if (!is_wanted || passed->helper >= 0) return Fd();
    return make_socket(options.socket + cli::kBudgetSuffix, 0666, std::nullopt);
}

bool is_socket_activated() {
    const auto passed = passed_sockets();
    return passed && passed->helper >= 0;
}

void remove_own_sockets(const Options& options) noexcept {
    const auto passed = passed_sockets();
    if (!passed || passed->helper >= 0) return;
    unlink(options.socket.c_str());
    if (passed->budget < 0) unlink((options.socket + cli::kBudgetSuffix).c_str());
}

}  // namespace farswap::daemon
