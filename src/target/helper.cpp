#include "target/helper.h"

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>

#include "base/descriptor_message.h"
#include "target/helper_protocol.h"

namespace farswap::target {
namespace {

constexpr timeval kAnswerLimit{.tv_sec = 10, .tv_usec = 0};
constexpr const char* kSocketVariable = "FARSWAPD_SOCKET";

/// Whether the whole range of users is mapped (user_namespaces(7)), as in the machine's own namespace.
bool has_all_users() {
    std::ifstream map("/proc/self/uid_map");
    std::uint64_t inside = 0, outside = 0, count = 0, all = 0;
    while (map >> inside >> outside >> count) all += count;
    return all >= UINT32_MAX;
}

HelperPeer describe_peer(uid_t user) {
    HelperPeer peer{.user = user,
                    .outside_exists = !has_all_users(),
                    .named_by_caller = secure_getenv(kSocketVariable) != nullptr,
                    .caller = geteuid()};
    std::ifstream("/proc/sys/kernel/overflowuid") >> peer.unknown_user;
    return peer;
}

Result<Fd> ask(const HelperRequest& request, int descriptor) {
    const std::string path = helper_socket();
    auto connection = connect_to_farswapd(path, true);
    if (!connection) return connection;
    // Refused before it was read, the request meets a closed socket, and the reason waits to be read.
    const int error = send_message(connection->get(), &request, sizeof request, descriptor);
    if (error != 0 && error != EPIPE) return fail_errno(error, "{}", path);
    HelperReply reply;
    auto received = receive_message(connection->get(), &reply, sizeof reply);
    // The error that a socket closed with something unread in it leaves comes before the reply.
    if (received.error == ECONNRESET) received = receive_message(connection->get(), &reply, sizeof reply);
    if (received.error == EAGAIN) return fail(ETIMEDOUT, "{}: farswapd does not answer", path);
    if (received.error != 0) return fail_errno(received.error, "{}", path);
    if (received.bytes != sizeof reply || received.truncated || reply.version != kHelperVersion)
        return fail(EPROTO, "{}: no answer of this version's farswapd", path);
    reply.text[sizeof reply.text - 1] = '\0';
    if (reply.error != 0) return fail(reply.error > 0 ? reply.error : EPROTO, "{}: {}", path, reply.text);
    return std::move(received.descriptor);
}

}  // namespace

std::string helper_socket() {
    const char* named = secure_getenv(kSocketVariable);
    return named != nullptr ? named : kHelperSocket;
}

Result<Fd> connect_to_farswapd(const std::string& path, bool may_wait) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path)
        return fail(ENAMETOOLONG, "{}: a socket's path has at most {} bytes", path,
                    sizeof address.sun_path - 1);
    std::memcpy(address.sun_path, path.c_str(), path.size());
    Fd fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | (may_wait ? 0 : SOCK_NONBLOCK), 0));
    // The limit on sending is that on connecting, too (unix(7) queues connections).
    if (!fd || setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &kAnswerLimit, sizeof kAnswerLimit) != 0 ||
        setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &kAnswerLimit, sizeof kAnswerLimit) != 0 ||
        connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
        return fail_errno(errno, "{}", path);
    ucred peer{};
    socklen_t size = sizeof peer;
    if (getsockopt(fd.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0)
        return fail_errno(errno, "{}", path);
    // Whoever gets a userfaultfd can put any bytes into the program.
    if (!is_trusted_helper(describe_peer(peer.uid)))
        return fail(EPERM, "{}: user {} listens there, who is not root", path, peer.uid);
    return fd;
}

Result<Fd> helper_device() {
    auto device = ask({.kind = HelperRequestKind::kDevice}, -1);
    if (device && !*device) return fail(EPROTO, "{}: no descriptor came with the answer", helper_socket());
    return device;
}

Status helper_enable(int uffd, std::uint64_t features) {
    auto done = ask({.kind = HelperRequestKind::kEnable, .features = features}, uffd);
    if (!done) return std::unexpected(done.error());
    return {};
}

bool is_trusted_helper(const HelperPeer& peer) noexcept {
    if (peer.user == 0) return true;
    if (peer.user == peer.unknown_user && peer.outside_exists) return true;
    return peer.named_by_caller && peer.user == peer.caller;
}

}  // namespace farswap::target
