#include "daemon/relay.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "base/descriptor_message.h"
#include "daemon/say.h"
#include "daemon/share_request.h"

namespace farswap::daemon {
namespace {

using cli::ShareReply;
using cli::ShareReplyKind;
using cli::ShareRequest;

constexpr timespec kBetweenMessages{.tv_sec = 0, .tv_nsec = 10'000'000};

void send_refusal(int client, const Error& why) {
    ShareReply reply{.kind = ShareReplyKind::kRefused, .error = why.code};
    why.message.copy(reply.text, sizeof reply.text - 1);
    (void)send_message(client, &reply, sizeof reply, -1);
}

/// The error that a socket closed with something unread in it leaves comes before what it has sent.
ReceivedMessage receive(int socket, void* data, std::size_t bytes) {
    auto received = receive_message(socket, data, bytes);
    if (received.error == ECONNRESET) received = receive_message(socket, data, bytes);
    return received;
}

/// From the client to the broker. False: that was the last.
bool carry_request(int client, int broker, const Peer& peer) {
    std::array<std::byte, sizeof(ShareRequest) + 1> bytes{};
    const auto received = receive(client, bytes.data(), bytes.size());
    if (received.error != 0 || (received.bytes == 0 && received.descriptors == 0)) return false;
    const auto request = parse_share_request(std::span(bytes).first(received.bytes));
    if (!request) {
        say("user {}, process {}: hung up on: {}", peer.user, peer.process, request.error().message);
        send_refusal(client, request.error());
        return false;
    }
    if (send_message(broker, &*request, sizeof *request, -1) != 0) return false;
    alarm(0);  // it has said something
    nanosleep(&kBetweenMessages, nullptr);
    return true;
}

bool carry_reply(int client, int broker, const Peer& peer) {
    ShareReply reply;
    const auto received = receive(broker, &reply, sizeof reply);
    if (received.error != 0 || received.bytes == 0) return false;
    const int error = send_message(client, &reply, received.bytes, -1);
    if (error == EAGAIN) say("user {}, process {}: hung up on: it takes no message", peer.user, peer.process);
    return error == 0;
}

}  // namespace

void relay(int client, int broker, const Peer& peer) {
    for (;;) {
        pollfd ready[] = {{client, POLLIN, 0}, {broker, POLLIN, 0}};
        if (poll(ready, std::size(ready), -1) < 0) {
            if (errno == EINTR) continue;
            return;
        }
        if (ready[1].revents != 0 && !carry_reply(client, broker, peer)) return;
        if (ready[0].revents != 0 && !carry_request(client, broker, peer)) return;
    }
}

void refuse_share(int client, const Peer& peer, const Error& why) {
    say("user {}, process {}: refused: {}", peer.user, peer.process, why.message);
    fcntl(client, F_SETFL, O_NONBLOCK);
    send_refusal(client, why);
}

}  // namespace farswap::daemon
