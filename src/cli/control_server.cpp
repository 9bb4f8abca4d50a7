#include "cli/control_server.h"

#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "base/descriptor_message.h"
#include "base/no_allocation.h"
#include "cli/control_socket.h"
#include "cli/memory_room.h"
#include "cli/size_text.h"
#include "farswap/request.h"

namespace farswap::cli {
namespace {

constexpr std::chrono::milliseconds kProgressPeriod{100};
constexpr std::size_t kClientsMax = 64;

nlohmann::json error_of(const Error& error) {
    return {{"error", error.message}, {"code", error.code}};
}

Result<target::AddressRange> range_of(std::uint64_t start, std::uint64_t end) {
    if (start % kPageSize != 0 || end % kPageSize != 0 || start > end || end > target::kAddressEnd)
        return fail(EINVAL, "there are no such pages");
    return target::AddressRange{start, end};
}

void send_pages(int socket, const Peek& peek) {
    if (peek.error != 0) {
        send_json(socket, error_of(Error{EIO, fmt::format("page {:#x} is outside and cannot be read: {}",
                                                          peek.failed_at, strerror(-peek.error))}));
        return;
    }
    std::uint32_t outside = 0;
    for (std::size_t i = 0; i < peek.pages.size(); i++)
        outside |= std::uint32_t{peek.pages[i].is_outside} << i;
    if (send_json(socket, {{"outside", outside}})) send_bytes(socket, peek.content);
}

}  // namespace

ControlServer::ControlServer(io::Loop& loop, Job& job, ControlHooks hooks)
    : loop_(loop), job_(job), hooks_(std::move(hooks)) {
    timer_.owner = this;
    timer_.fire = [](io::Timer& timer) { static_cast<ControlServer*>(timer.owner)->tell_progress(); };
}

ControlServer::~ControlServer() {
    loop_.cancel(timer_);
    if (somebody_waits() && !job_.is_departing()) tell_progress();  // all have left, and so does the job
    for (const auto& client : clients_) loop_.remove(client->watch);
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

Status ControlServer::restart() {
    if (watch_.added) loop_.remove(watch_);
    listener_.reset();
    return start();
}

void ControlServer::accept_client() {
    const MayAllocate asked("somebody else asks");
    Fd socket(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket || !is_trusted(socket.get()) || clients_.size() >= kClientsMax) return;
    Client& client = *clients_.emplace_back(std::make_shared<Client>());
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
    const MayAllocate asked("somebody else asks");
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
        send_json(client.socket.get(), {{"managed", process > 0 && job_.is_member(process)}});
    } else if (what == "detach") {
        if (const auto begun = begin(process, request.value("force", false), client.bytes); !begun) {
            send_json(client.socket.get(), error_of(begun.error()));
            return;
        }
        client.waits = true;
        loop_.arm(timer_, io::Clock::now());
    } else if (what == "hold") {
        send_json(client.socket.get(), hold(client, process));
    } else if (what == "outside") {
        send_json(client.socket.get(), outside(request));
    } else if (what == "read") {
        read(client, request);
    } else if (what == "stats") {
        send_json(client.socket.get(), hooks_.stats());
    } else if (what == "size") {
        size(client);
    } else if (what == "set") {
        send_json(client.socket.get(), set_ram(request));
    } else {
        send_json(client.socket.get(), error_of(Error{ENOSYS, "this pager does not know that request"}));
    }
}

void ControlServer::drop(Client& client) {
    loop_.remove(client.watch);
    if (client.held != 0) job_.release_hold(client.held);
    clients_.remove_if([&](const auto& one) { return one.get() == &client; });
}

nlohmann::json ControlServer::hold(Client& client, pid_t process) {
    if (client.held != 0) return error_of(Error{EBUSY, "this connection holds a process already"});
    const auto held = job_.hold(process);
    if (!held) return error_of(held.error());
    client.held = process;
    return {{"agent", held->agent}, {"start", held->range.start}, {"end", held->range.end}};
}

nlohmann::json ControlServer::outside(const nlohmann::json& request) const {
    const auto range = range_of(request.at("start"), request.at("end"));
    if (!range) return error_of(range.error());
    const auto found = job_.outside(request.at("process"), range->start, range->end);
    if (!found) return error_of(found.error());
    auto ranges = nlohmann::json::array();
    for (const auto& one : found->ranges) ranges.push_back({one.start, one.end});
    return {{"ranges", std::move(ranges)}, {"until", found->until}};
}

/// As a file in memory, since it is more than a message can be.
void ControlServer::size(const Client& client) const {
    const auto words = hooks_.misses->words();
    const auto bytes = std::as_bytes(std::span(words));
    const Fd file(memfd_create("farswap-size", MFD_CLOEXEC));
    if (!file || write(file.get(), bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) {
        send_json(client.socket.get(), error_of(Error{errno, "there is no memory for the answer"}));
        return;
    }
    const auto text = size_facts_json(hooks_.size_facts()).dump();
    send_message(client.socket.get(), text.data(), text.size(), file.get());
}

nlohmann::json ControlServer::set_ram(const nlohmann::json& request) const {
    const RamSize size{.bytes = request.value("ram_bytes", std::uint64_t{0}),
                       .percent = request.value("ram_percent", 0.0)};
    if (!(size.percent >= 0 && size.percent <= 100) || (size.percent == 0 && size.bytes == 0))
        return error_of(Error{EINVAL, "that is no size"});
    auto set = hooks_.set_ram(size);
    return set ? std::move(*set) : error_of(set.error());
}

void ControlServer::read(Client& client, const nlohmann::json& request) {
    const auto pages = request.at("pages").get<std::uint64_t>();
    const auto start = request.at("start").get<std::uint64_t>();
    const auto range = range_of(start, start + pages * kPageSize);
    if (!range || pages == 0 || pages > Peek::kPagesMax) {
        send_json(client.socket.get(), error_of(Error{EINVAL, "there are no such pages"}));
        return;
    }
    auto peek = std::make_unique<Peek>();
    peek->address = start;
    peek->pages.resize(pages);
    // It may hang up meanwhile.
    const std::weak_ptr<Client> asker = *std::ranges::find(clients_, &client, &std::shared_ptr<Client>::get);
    peek->done = [asker](const Peek& done) {
        if (const auto one = asker.lock()) send_pages(one->socket.get(), done);
    };
    if (auto begun = job_.peek(request.at("process"), std::move(peek)); !begun)
        send_json(client.socket.get(), error_of(begun.error()));
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
    return std::ranges::any_of(clients_, [](const auto& client) { return client->waits; });
}

void ControlServer::tell_progress() {
    const MayAllocate asked("somebody else asks");
    const bool is_over = !job_.is_departing();
    const auto far = job_.far_pages(0).value_or(0) * kPageSize;
    for (const auto& client : clients_) {
        if (!client->waits) continue;
        client->waits = !is_over;
        send_json(client->socket.get(), {{"done", is_over}, {"bytes", client->bytes}, {"far_bytes", far}});
    }
    if (!is_over) loop_.arm(timer_, io::Clock::now() + kProgressPeriod);
}

}  // namespace farswap::cli
