#include "cli/machine_share.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>

#include "base/descriptor_message.h"
#include "base/log.h"
#include "base/no_allocation.h"
#include "cli/sizes.h"
#include "target/helper.h"

namespace farswap::cli {
namespace {

using namespace std::chrono_literals;

constexpr auto kPatience = 40s;  // farswapd refuses after half a minute
constexpr auto kSilence = 2s;    // then a line says what is waited for
constexpr int kLookMs = 100;
constexpr auto kBetweenReports = 500ms;
constexpr auto kBetweenTries = 2s;

/// Waits for the reply to a wish.
Result<ShareReply> await_reply(int socket, const std::function<bool()>& is_interrupted) {
    const auto began = MachineShare::Clock::now();
    bool has_said = false;
    for (;;) {
        pollfd ready{socket, POLLIN, 0};
        if (poll(&ready, 1, kLookMs) > 0) return receive_share_reply(socket);
        const auto waited = MachineShare::Clock::now() - began;
        if (is_interrupted()) return fail(EINTR, "interrupted");
        if (waited > kPatience) return fail(ETIMEDOUT, "{}: farswapd does not answer", share_socket());
        if (waited > kSilence && !std::exchange(has_said, true))
            log::warning("waits for room under this machine's budget");
    }
}

bool is_below(std::string_view url, std::string_view prefix) {
    if (!url.starts_with(prefix)) return false;
    return url.size() == prefix.size() || prefix.ends_with('/') || url[prefix.size()] == '/' ||
           url[prefix.size()] == '?';
}

}  // namespace

std::string share_socket() {
    return target::helper_socket() + kBudgetSuffix;
}

Result<ShareReply> receive_share_reply(int socket) {
    ShareReply reply;
    auto received = receive_message(socket, &reply, sizeof reply);
    // The error that a socket closed with something unread in it leaves comes before what it has sent.
    if (received.error == ECONNRESET) received = receive_message(socket, &reply, sizeof reply);
    if (received.error == EINTR) return fail(EAGAIN, "interrupted");
    if (received.error != 0) return fail_errno(received.error, "{}", share_socket());
    if (received.bytes == 0) return fail(EPIPE, "{}: farswapd has hung up", share_socket());
    reply.text[sizeof reply.text - 1] = '\0';
    if (received.bytes <= offsetof(ShareReply, text) || received.truncated || reply.version != kShareVersion)
        return fail(EPROTO, "{}: no answer of this version's farswapd: install both from one release",
                    share_socket());
    return reply;
}

MachineDefaults parse_defaults(std::string_view text) {
    MachineDefaults defaults;
    while (!text.empty()) {
        const auto line = text.substr(0, text.find('\n'));
        text.remove_prefix(std::min(line.size() + 1, text.size()));
        const auto blank = line.find(' ');
        if (blank == std::string_view::npos) continue;
        const auto key = line.substr(0, blank);
        std::string value(line.substr(blank + 1));
        if (key == "swap")
            defaults.swap.push_back(std::move(value));
        else if (key == "store")
            defaults.stores.push_back(std::move(value));
        else if (key == "compress")
            defaults.compress = std::move(value);
        else if (key == "on-full")
            defaults.on_full = std::move(value);
    }
    return defaults;
}

Status take_defaults(RunOptions& options, const MachineDefaults& defaults) {
    if (options.swap.empty()) options.swap = defaults.swap;
    if (!options.compression_given && !defaults.compress.empty()) {
        if (const auto compression = compression_of(defaults.compress)) options.compression = *compression;
    }
    if (!options.when_full_given && !defaults.on_full.empty())
        options.wait_when_full = defaults.on_full == "wait";
    if (defaults.stores.empty()) return {};
    if (options.swap.empty())
        return fail(EACCES,
                    "this machine allows this user only certain stores: give --swap one that begins with {}",
                    fmt::join(defaults.stores, " or "));
    for (const auto& url : options.swap) {
        if (url != "none" &&
            std::ranges::none_of(defaults.stores, [&](const auto& one) { return is_below(url, one); }))
            return fail(EACCES, "--swap {}: this machine allows this user only stores that begin with {}",
                        url, fmt::join(defaults.stores, " or "));
    }
    return {};
}

Result<std::unique_ptr<MachineShare>> MachineShare::ask(const Wish& wish,
                                                        const std::function<bool()>& is_interrupted) {
    auto socket = target::connect_to_farswapd(share_socket(), true);
    if (!socket) {
        if (socket.error().code != ENOENT)
            log::warning("{}: this machine's budget cannot be asked, and the job runs beside it",
                         socket.error().message);
        return nullptr;
    }
    const ShareRequest request{.kind = ShareRequestKind::kAsk,
                               .least = wish.least,
                               .most = wish.most,
                               .takes_default = wish.takes_default};
    // Refused before it was read, the request meets a closed socket, and the reason waits to be read.
    if (const int error = send_message(socket->get(), &request, sizeof request, -1);
        error != 0 && error != EPIPE)
        return fail_errno(error, "{}", share_socket());
    const auto reply = await_reply(socket->get(), is_interrupted);
    if (!reply) return std::unexpected(reply.error());
    switch (reply->kind) {
        case ShareReplyKind::kNone:
            return nullptr;
        case ShareReplyKind::kGranted:
            log::info("farswapd: {} of the machine's {}", format_size(reply->cap),
                      format_size(reply->budget));
            return std::unique_ptr<MachineShare>(
                new MachineShare(std::move(*socket), *reply, parse_defaults(reply->text)));
        default:
            return fail(reply->error > 0 ? reply->error : EPROTO, "farswapd: {}", reply->text);
    }
}

std::optional<std::uint64_t> MachineShare::take_cap(Clock::time_point now) {
    if (!socket_) {
        come_back(now);
        return std::nullopt;
    }
    std::optional<std::uint64_t> cap;
    for (;;) {
        pollfd ready{socket_.get(), POLLIN, 0};
        if (poll(&ready, 1, 0) <= 0) return cap;
        const auto reply = receive_share_reply(socket_.get());
        if (!reply && reply.error().code == EAGAIN) return cap;
        if (!reply || (reply->kind != ShareReplyKind::kCap && reply->kind != ShareReplyKind::kGranted)) {
            lose(now);
            return cap;
        }
        cap = cap_ = reply->cap;
        budget_ = reply->budget;
        serial_ = reply->serial;
    }
}

void MachineShare::watch(io::Loop& loop, std::function<void()> told) {
    loop_ = &loop;
    on_told_ = std::move(told);
    listen();
}

void MachineShare::unwatch() {
    if (watch_.added) loop_->remove(watch_);
    loop_ = nullptr;
}

void MachineShare::listen() {
    if (loop_ == nullptr || !socket_) return;
    watch_ = {.fd = socket_.get(),
              .ready =
                  [](io::Watch& watch, std::uint32_t) {
                      const MayAllocate message("farswapd has a word");
                      static_cast<MachineShare*>(watch.owner)->on_told_();
                  },
              .owner = this};
    loop_->add(watch_);
}

void MachineShare::lose(Clock::time_point now) {
    if (watch_.added) loop_->remove(watch_);
    socket_.reset();
    try_again_at_ = now + kBetweenTries;
    log::info("farswapd has gone away: the cap stays at {}", format_size(told_.cap));
}

/// With the cap that it has, which a farswapd that was started anew does not know of.
void MachineShare::come_back(Clock::time_point now) {
    if (now < try_again_at_ || told_.cap == 0) return;
    try_again_at_ = now + kBetweenTries;
    auto socket = target::connect_to_farswapd(share_socket(), false);
    if (!socket) return;
    const ShareRequest request{.kind = ShareRequestKind::kAsk,
                               .cap = told_.cap,
                               .least = told_.least,
                               .most = told_.most,
                               .ram = told_.ram,
                               .far = told_.far,
                               .refaults = told_.refaults};
    if (send_message(socket->get(), &request, sizeof request, -1) != 0) return;
    socket_ = std::move(*socket);
    serial_ = told_serial_ = 0;
    listen();
    log::info("farswapd is back, and knows of the cap of {}", format_size(told_.cap));
}

void MachineShare::tell(const ShareFigures& figures, Clock::time_point now) {
    const bool has_followed = told_serial_ != serial_;
    const bool has_come_down = told_.ram > told_.cap && figures.ram <= figures.cap;
    if (!has_followed && !has_come_down && now - told_at_ < kBetweenReports) return;
    told_ = figures;
    told_at_ = now;
    if (!socket_) return;
    told_serial_ = serial_;
    const ShareRequest request{.kind = ShareRequestKind::kReport,
                               .serial = serial_,
                               .cap = figures.cap,
                               .least = figures.least,
                               .most = std::max(figures.most, figures.least),
                               .ram = figures.ram,
                               .far = figures.far,
                               .refaults = figures.refaults};
    const iovec part{const_cast<ShareRequest*>(&request), sizeof request};
    msghdr message{};
    message.msg_iov = const_cast<iovec*>(&part);
    message.msg_iovlen = 1;
    if (sendmsg(socket_.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno != EAGAIN) lose(now);
}

}  // namespace farswap::cli
