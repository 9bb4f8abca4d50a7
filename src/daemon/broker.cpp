#include "daemon/broker.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <vector>

#include "base/descriptor_message.h"
#include "base/size_text.h"
#include "daemon/confine.h"
#include "daemon/relay.h"
#include "daemon/say.h"
#include "daemon/service.h"
#include "daemon/share_request.h"

namespace farswap::daemon {
namespace {

using cli::ShareReply;
using cli::ShareRequest;
using cli::ShareRequestKind;

constexpr int kLookMs = 250;  // between two looks at the clock, while there are jobs

struct Ends {
    int client, broker;
};

/// What a relay does, to its end. Nothing of other clients is open here: the broker has no client's socket
/// but this one. The broker drops its copy before it says a word, so that the last to close the stranger's
/// socket, and what lies unread in it, is this process (decision 0012).
[[noreturn]] void run_relay(const Ends& ends, const Peer& peer, const Status& verdict,
                            std::chrono::seconds first_word_max) {
    enter_child(ends.client, ends.broker, first_word_max);
    char go = 0;
    if (receive_message(kParent, &go, 1).bytes == 0) _exit(0);
    constexpr timeval kPatience{.tv_sec = 5, .tv_usec = 0};
    setsockopt(kClient, SOL_SOCKET, SO_SNDTIMEO, &kPatience, sizeof kPatience);
    const auto confined = forbid_all_but_relaying();
    if (!verdict)
        refuse_share(kClient, peer, verdict.error());
    else if (!confined)
        refuse_share(kClient, peer, confined.error());
    else
        relay(kClient, kParent, peer);
    _exit(0);
}

std::string describe(const Config& config) {
    if (!config.mistake.empty()) return "no share for anybody until it is mended and reloaded";
    if (config.ram == 0) return "no budget";
    return fmt::format("a budget of {} for at most {} jobs", format_size(config.ram), config.jobs_max);
}

}  // namespace

Status Broker::run() {
    const auto signals = take_signals();
    if (!signals) return std::unexpected(signals.error());
    if (const auto& mistake = ledger_.config().mistake; !mistake.empty()) say("{}", mistake);
    say("{}: {}", file_, describe(ledger_.config()));
    for (;;) {
        const bool is_short = std::exchange(short_of_something_, false);
        const bool accepts = !is_short && links_.size() < limits_.connections_max;
        std::vector<pollfd> ready{{signals->get(), POLLIN, 0}, {accepts ? listener_.get() : -1, POLLIN, 0}};
        std::vector<Ledger::Id> ids;
        for (const auto& [id, link] : links_) {
            ready.push_back({link.socket.get(), POLLIN, 0});
            ids.push_back(id);
        }
        const int wait_ms = is_short ? kAgainMs : ledger_.size() > 0 ? kLookMs : -1;
        if (poll(ready.data(), ready.size(), wait_ms) < 0 && errno != EINTR) return fail_errno(errno, "poll");
        const Signals got = read_signals(signals->get());
        if (got.reload) reload();
        if (got.end) return {};
        while (waitpid(-1, nullptr, WNOHANG) > 0) {
        }
        for (std::size_t i = 0; i < ids.size(); ++i) {
            if (ready[i + 2].revents != 0) take_message(ids[i], links_.at(ids[i]));
        }
        if ((ready[1].revents & POLLIN) != 0) accept_clients();
        tell();
        bury();
    }
}

void Broker::reload() {
    auto config = read_config(file_, surroundings());
    if (!config) {
        say("not reloaded: {}; what was in force stays", config.error().message);
        return;
    }
    say("reloaded {}: {}; jobs that run: {}", file_, describe(*config), ledger_.size());
    ledger_.reconfigure(std::move(*config));
}

std::size_t Broker::links_of(uid_t user) const {
    return static_cast<std::size_t>(
        std::ranges::count_if(links_, [user](const auto& entry) { return entry.second.peer.user == user; }));
}

Status Broker::judge(const Peer& peer) const {
    const std::size_t most = rule_for(ledger_.config(), peer).jobs_max + limits_.connections_beside_jobs;
    if (links_of(peer.user) >= most)
        return fail(EAGAIN, "{} connections of this user are open already", most);
    return {};
}

void Broker::accept_clients() {
    while (links_.size() < limits_.connections_max && !short_of_something_) {
        Fd client = accept_client(listener_.get(), short_of_something_);
        if (!client) return;
        const auto peer = peer_of(client.get());
        const Status verdict = peer ? judge(*peer) : std::unexpected(peer.error());
        if (!start_relay(std::move(client), peer.value_or(Peer{}), verdict)) short_of_something_ = true;
    }
}

/// False: no process can be made now, and the client is hung up on.
bool Broker::start_relay(Fd client, const Peer& peer, const Status& verdict) {
    int ends[2] = {-1, -1};
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return false;
    Fd ours(ends[0]), theirs(ends[1]);
    const pid_t child = fork();
    if (child == 0) run_relay({client.get(), theirs.get()}, peer, verdict, limits_.first_word_max);
    if (child < 0) return false;
    theirs.reset();
    client.reset();
    const char go = 0;
    if (send_message(ours.get(), &go, sizeof go, -1) != 0) return true;  // it was killed
    links_.emplace(next_++, Link{std::move(ours), peer});
    return true;
}

void Broker::take_message(Ledger::Id id, Link& link) {
    std::array<std::byte, sizeof(ShareRequest) + 1> bytes{};
    const auto received = receive_message(link.socket.get(), bytes.data(), bytes.size());
    if (received.error == EINTR) return;
    const auto request =
        parse_share_request(std::span(bytes).first(received.error == 0 ? received.bytes : 0));
    if (!request) {  // a relay sends nothing else, and ends without a word
        link.is_over = true;
        return;
    }
    switch (request->kind) {
        case ShareRequestKind::kAsk:
            if (const auto reply = ledger_.ask(id, link.peer, *request, Ledger::Clock::now())) {
                send(link, *reply);
                link.is_over = true;
            }
            return;
        case ShareRequestKind::kReport:
            return ledger_.report(id, *request, Ledger::Clock::now());
        case ShareRequestKind::kList:
            for (const auto& entry : ledger_.entries()) send(link, entry);
            link.is_over = true;
    }
}

void Broker::tell() {
    for (const auto& [id, reply, is_last] : ledger_.take_replies(Ledger::Clock::now())) {
        Link& link = links_.at(id);
        send(link, reply);
        if (is_last) link.is_over = true;
    }
    for (const auto& line : ledger_.take_lines()) say("{}", line);
}

/// Without the end of its text, which is zeros.
void Broker::send(Link& link, const ShareReply& reply) {
    const std::size_t length = offsetof(ShareReply, text) + strnlen(reply.text, sizeof reply.text - 1) + 1;
    const iovec part{const_cast<ShareReply*>(&reply), length};
    msghdr message{};
    message.msg_iov = const_cast<iovec*>(&part);
    message.msg_iovlen = 1;
    // One that does not read loses its share.
    if (sendmsg(link.socket.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) link.is_over = true;
}

void Broker::bury() {
    const auto is_over = [&](const auto& entry) {
        if (!entry.second.is_over) return false;
        ledger_.release(entry.first);
        return true;
    };
    if (std::erase_if(links_, is_over) > 0) tell();
}

}  // namespace farswap::daemon
