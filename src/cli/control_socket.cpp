#include "cli/control_socket.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstddef>
#include <cstring>

#include "cli/memory_limit.h"
#include "target/proc.h"

namespace farswap::cli {
namespace {

constexpr std::string_view kPrefix = "farswap-pager/";
constexpr int kWaiting = 16;  // connections that are not accepted yet
constexpr std::chrono::seconds kAnswerLimit{10};
constexpr int kLookForInterruptMs = 100;
constexpr std::size_t kMessageMax = 64 << 10;

struct Address {
    sockaddr_un name{};
    socklen_t length = 0;
};

Address address_of(pid_t pager) {
    Address address;
    address.name.sun_family = AF_UNIX;
    const std::string text = fmt::format("{}{}", kPrefix, pager);
    std::memcpy(address.name.sun_path + 1, text.data(), text.size());  // the byte before is 0: abstract
    address.length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + text.size());
    return address;
}

std::optional<ucred> peer_of(int socket) {
    ucred peer{};
    socklen_t size = sizeof peer;
    if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return std::nullopt;
    return peer;
}

Result<Fd> connect_with(pid_t pager, int flags) {
    Fd fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | flags, 0));
    const Address address = address_of(pager);
    if (!fd || connect(fd.get(), reinterpret_cast<const sockaddr*>(&address.name), address.length) != 0)
        return fail_errno(errno, "cannot reach the pager {}", pager);
    // Any user may take any abstract name.
    const auto peer = peer_of(fd.get());
    if (!peer || (peer->uid != 0 && geteuid() != 0 && peer->uid != geteuid()))
        return fail(EPERM, "pager {} is another user's", pager);
    return fd;
}

/// Whether the pager at the other end may have the process: root's may have any, a user's only his own.
bool may_have(int socket, pid_t process) {
    const auto user = user_of(socket);
    return user && (*user == 0 || target::read_user(process) == user);
}

}  // namespace

Result<Fd> listen_for_control() {
    Fd fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const Address address = address_of(getpid());
    if (!fd || bind(fd.get(), reinterpret_cast<const sockaddr*>(&address.name), address.length) != 0 ||
        listen(fd.get(), kWaiting) != 0)
        return fail_errno(errno, "cannot listen for farswap detach");
    return fd;
}

std::vector<pid_t> running_pagers() {
    std::vector<pid_t> pagers;
    const auto text = read_text_file("/proc/net/unix").value_or("");
    const std::string label = fmt::format(" @{}", kPrefix);
    for (auto at = text.find(label); at != std::string::npos; at = text.find(label, at + 1)) {
        pid_t pager = 0;
        std::from_chars(text.data() + at + label.size(), text.data() + text.size(), pager);
        // A connection that was accepted bears the name, too.
        if (pager > 0 && std::find(pagers.begin(), pagers.end(), pager) == pagers.end())
            pagers.push_back(pager);
    }
    return pagers;
}

Result<Fd> connect_to_pager(pid_t pager) {
    return connect_with(pager, 0);
}

Result<Fd> connect_without_waiting(pid_t pager) {
    return connect_with(pager, SOCK_NONBLOCK);
}

std::optional<uid_t> user_of(int socket) {
    const auto peer = peer_of(socket);
    return peer ? std::optional(peer->uid) : std::nullopt;
}

bool is_trusted(int socket) {
    const auto peer = peer_of(socket);
    return peer && (peer->uid == 0 || peer->uid == geteuid());
}

bool send_json(int socket, const nlohmann::json& message) {
    const std::string text = message.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    return send(socket, text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT) ==
           static_cast<ssize_t>(text.size());
}

Result<std::optional<nlohmann::json>> receive_json(int socket) {
    std::string text(kMessageMax, '\0');
    ssize_t got = 0;
    do {
        got = recv(socket, text.data(), text.size(), 0);
    } while (got < 0 && errno == EINTR);
    if (got < 0) return fail_errno(errno, "no answer");
    text.resize(static_cast<std::size_t>(got));
    auto message = nlohmann::json::parse(text, nullptr, false);
    if (!message.is_object()) return std::optional<nlohmann::json>();
    return std::optional(std::move(message));
}

std::optional<Error> error_in(const nlohmann::json& answer) {
    if (!answer.is_object() || !answer.contains("error")) return {};
    const auto& text = answer["error"];
    const auto code = answer.find("code");
    Error error{EIO, text.is_string() ? text.get<std::string>() : std::string("an error without a text")};
    if (code != answer.end() && code->is_number_integer()) error.code = code->get<int>();
    const auto is_control = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; };
    std::ranges::replace_if(error.message, is_control, '?');
    return error;
}

bool send_bytes(int socket, std::span<const std::byte> bytes) {
    return send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT) ==
           static_cast<ssize_t>(bytes.size());
}

Result<std::size_t> receive_bytes(int socket, std::span<std::byte> into) {
    ssize_t got = 0;
    do {
        got = recv(socket, into.data(), into.size(), 0);
    } while (got < 0 && errno == EINTR);
    if (got < 0) return fail_errno(errno, "no answer");
    return static_cast<std::size_t>(got);
}

Status await_message(int socket, const std::function<bool()>& is_interrupted,
                     std::chrono::steady_clock::time_point until) {
    pollfd ready{socket, POLLIN, 0};
    while (poll(&ready, 1, kLookForInterruptMs) <= 0) {
        if (is_interrupted && is_interrupted()) return fail(EINTR, "interrupted");
        if (std::chrono::steady_clock::now() > until) return fail(EAGAIN, "no answer");
    }
    return {};
}

Result<PagerConnection> find_pager_of(pid_t process, const std::function<bool()>& is_interrupted) {
    Error last{ENOENT, fmt::format("process {} is not managed by a farswap that runs here", process)};
    for (const pid_t pager : running_pagers()) {
        auto socket = connect_to_pager(pager);
        if (!socket) {
            if (socket.error().code == EPERM || socket.error().code == EACCES)
                last = {EPERM, fmt::format("{}, and so may be process {}: try as root",
                                           socket.error().message, process)};
            continue;
        }
        if (!send_json(socket->get(), {{"do", "find"}, {"process", process}})) continue;
        const auto until = std::chrono::steady_clock::now() + kAnswerLimit;  // it may be stopped
        const auto come = await_message(socket->get(), is_interrupted, until);
        if (!come && come.error().code == EINTR) return std::unexpected(come.error());
        const auto answer = come ? receive_json(socket->get()) : std::unexpected(come.error());
        if (!answer)
            last = {ETIMEDOUT,
                    fmt::format("pager {} does not answer (is it stopped?), and may have process {}", pager,
                                process)};
        if (answer && *answer && (*answer)->contains("managed") && (**answer)["managed"] == true &&
            may_have(socket->get(), process))
            return PagerConnection{pager, std::move(*socket)};
    }
    return std::unexpected(last);
}

}  // namespace farswap::cli
