#include "daemon/server.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <iterator>

#include "daemon/client.h"
#include "daemon/confine.h"
#include "daemon/say.h"
#include "daemon/service.h"

namespace farswap::daemon {
namespace {

struct Child {
    int client;
    int parent;  ///< a connection to it
};

void wait_for_end(int socket) {
    char nothing = 0;
    while (read(socket, &nothing, 1) < 0 && errno == EINTR) {
    }
}

/// Whoever closes a client's socket last closes the descriptors that lie unread in it, too, which a stranger
/// can make slow (SO_LINGER). That must be the client's own child: so the others drop theirs while the parent
/// still has all, and this one begins when the parent has dropped its own.
void own_the_socket() {
    shutdown(kParent, SHUT_WR);
    wait_for_end(kParent);
    close(kParent);
}

/// What a child does, to its end: what it can be harmed by is behind the filter.
[[noreturn]] void run_child(const Child& child, const Peer& peer, const Status& verdict,
                            std::chrono::seconds limit) {
    enter_child(child.client, child.parent, limit);
    own_the_socket();
    if (!verdict) {
        refuse(kClient, peer, verdict.error());
        _exit(0);
    }
    Fd device = open_device();
    if (const auto confined = forbid_other_calls(); !confined)
        refuse(kClient, peer, confined.error());
    else
        serve(kClient, peer, std::move(device));
    _exit(0);
}

}  // namespace

Status Server::run() {
    const auto signals = take_signals();
    if (!signals) return std::unexpected(signals.error());
    for (;;) {
        const bool is_short = std::exchange(short_of_something_, false);
        pollfd ready[] = {{signals->get(), POLLIN, 0},
                          {is_short || is_full() ? -1 : listener_.socket.get(), POLLIN, 0}};
        if (poll(ready, std::size(ready), is_short ? kAgainMs : -1) < 0 && errno != EINTR)
            return fail_errno(errno, "poll");
        const Signals got = read_signals(signals->get());
        if (got.reload) reload();
        if (got.end) return {};
        if (const auto collected = collect_children(); !collected) return collected;
        if ((ready[1].revents & POLLIN) != 0) accept_clients();
        start_waiting();
    }
}

void Server::accept_clients() {
    while (!is_full()) {
        Fd socket = accept_client(listener_.socket.get(), short_of_something_);
        if (!socket) return;
        Waiting client{std::move(socket), {}, {}};
        if (auto peer = peer_of(client.socket.get()); peer)
            client.peer = std::move(*peer), client.verdict = judge(client.peer);
        else
            client.verdict = std::unexpected(peer.error());
        waiting_.push_back(std::move(client));
    }
}

Status Server::judge(const Peer& peer) const {
    if (!may_ask(listener_.access, peer))
        return fail(EACCES, "this user may not ask: join the group that farswapd serves");
    const auto waiting =
        std::ranges::count_if(waiting_, [&](const Waiting& one) { return one.peer.user == peer.user; });
    if (static_cast<std::size_t>(waiting) + served(peer.user) >=
        limits_.served_per_user_max + limits_.waiting_per_user_max)
        return fail(EAGAIN, "too many requests of this user wait already");
    return {};
}

void Server::start_waiting() {
    for (auto client = waiting_.begin(); client != waiting_.end();) {
        const bool is_due = !client->verdict || served(client->peer.user) < limits_.served_per_user_max;
        if (is_due && !start(*client)) return;
        client = is_due ? waiting_.erase(client) : std::next(client);
    }
}

/// False: no process can be made now, and the client waits on.
bool Server::start(Waiting& client) {
    int ends[2] = {-1, -1};
    const bool connected = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0;
    Fd ours(ends[0]), theirs(ends[1]);
    const pid_t child = connected ? fork() : -1;
    if (child == 0)
        run_child({client.socket.get(), theirs.get()}, client.peer, client.verdict, limits_.client_max);
    if (child < 0) {
        short_of_something_ = true;
        return false;
    }
    theirs.reset();
    wait_for_end(ours.get());  // own_the_socket()
    client.socket.reset();
    children_[child] = {client.peer.user, client.verdict.has_value()};
    return true;
}

void Server::reload() const {
    if (broker_ > 0)
        kill(broker_, SIGHUP);
    else
        say("nothing to reload: it was started without a configuration");
}

/// EPIPE: the broker has ended.
Status Server::collect_children() {
    int status = 0;
    for (pid_t child; (child = waitpid(-1, &status, WNOHANG)) > 0;) {
        if (child == broker_) return fail(EPIPE, "the process that divides the budget has ended");
        const auto entry = children_.find(child);
        if (entry == children_.end()) continue;
        if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
            say("user {}: a client said nothing and was hung up on", entry->second.user);
        children_.erase(entry);
    }
    return {};
}

std::size_t Server::served(uid_t user) const {
    return static_cast<std::size_t>(std::ranges::count_if(children_, [user](const auto& child) {
        return child.second.user == user && child.second.is_served;
    }));
}

}  // namespace farswap::daemon
