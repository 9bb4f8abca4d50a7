#include "cli/control_server.h"

#include <sys/socket.h>

#include <algorithm>

#include "cli/control_socket.h"
#include "cli/memory_room.h"
#include "farswap/request.h"

namespace farswap::cli {
namespace {

constexpr std::chrono::milliseconds kProgressPeriod{100};
constexpr std::size_t kClientsMax = 64;

}  // namespace

ControlServer::ControlServer(io::Loop& loop, Job& job) : loop_(loop), job_(job) {
    timer_.owner = this;
    timer_.fire = [](io::Timer& timer) { static_cast<ControlServer*>(timer.owner)->tell_progress(); };
}

ControlServer::~ControlServer() {
    loop_.cancel(timer_);
    if (somebody_waits() && !job_.is_departing()) tell_progress();  // all have left, and so does the job
    for (Client& client : clients_) loop_.remove(client.watch);
    if (watch_.added) loop_.remove(watch_);
}

Status ControlServer::start() {
    auto listener = listen_for_control();
    if (!listener) return std::unexpected(listener.error());
    listener_ = std::move(*listener);
    watch_ = {.fd = listener_.get(),
              .ready = [](io::Watch& watch,
                          std::uint32_t) { static_cast<ControlServer*>(watch.owner)->accept_client(); },
              .owner = this};
    loop_.add(watch_);
    return {};
}

void ControlServer::accept_client() {
    Fd socket(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket || !is_trusted(socket.get()) || clients_.size() >= kClientsMax) return;
    Client& client = clients_.emplace_back();
    client.server = this;
    client.socket = std::move(socket);
    client.watch = {.fd = client.socket.get(),
                    .ready =
                        [](io::Watch& watch, std::uint32_t) {
                            auto& one = *static_cast<Client*>(watch.owner);
                            one.server->client_ready(one);
                        },
                    .owner = &client};
    loop_.add(client.watch);
}

void ControlServer::client_ready(Client& client) {
    const auto request = receive_json(client.socket.get());
    if (!request && request.error().code == EAGAIN) return;
    if (!request || !*request) {
        if (client.waits) job_.stay();
        return drop(client);
    }
    try {
        answer(client, **request);
    } catch (const nlohmann::json::exception&) {
        drop(client);
    }
}

void ControlServer::answer(Client& client, const nlohmann::json& request) {
    const auto process = request.value("process", pid_t{0});
    const std::string what = request.value("do", "");
    if (what == "find") {
        send_json(client.socket.get(), {{"managed", process > 0 && job_.far_pages(process).has_value()}});
    } else if (what == "detach") {
        if (const auto begun = begin(process, request.value("force", false), client.bytes); !begun) {
            send_json(client.socket.get(), {{"error", begun.error().message}, {"code", begun.error().code}});
            return;
        }
        client.waits = true;
        loop_.arm(timer_, io::Clock::now());
    } else {
        send_json(client.socket.get(),
                  {{"error", "this pager does not know that request"}, {"code", ENOSYS}});
    }
}

void ControlServer::drop(Client& client) {
    loop_.remove(client.watch);
    clients_.remove_if([&](const Client& one) { return &one == &client; });
}

Status ControlServer::begin(pid_t root, bool force, std::uint64_t& bytes) {
    if (job_.is_departing()) return fail(EBUSY, "processes are leaving already; wait until they have left");
    const auto pages = job_.far_pages(root);
    if (!pages) return fail(ESRCH, "process {} is not of this job", root);
    bytes = *pages * kPageSize;
    if (!force) {
        const auto room = memory_room(root == 0 ? ::getpid() : root, read_text_file);
        if (!room) return std::unexpected(room.error());
        if (auto fits = check_room(bytes, *room); !fits)
            return fail(fits.error().code, "{}: make room, or use farswap detach --force",
                        fits.error().message);
    }
    job_.detach(root);
    return {};
}

Status ControlServer::detach_all(bool force) {
    std::uint64_t bytes = 0;
    return begin(0, force, bytes);
}

bool ControlServer::somebody_waits() const {
    return std::ranges::any_of(clients_, [](const Client& client) { return client.waits; });
}

void ControlServer::tell_progress() {
    const bool is_over = !job_.is_departing();
    const auto far = job_.far_pages(0).value_or(0) * kPageSize;
    for (Client& client : clients_) {
        if (!client.waits) continue;
        client.waits = !is_over;
        send_json(client.socket.get(), {{"done", is_over}, {"bytes", client.bytes}, {"far_bytes", far}});
    }
    if (!is_over) loop_.arm(timer_, io::Clock::now() + kProgressPeriod);
}

}  // namespace farswap::cli
