// RPC over TCP, one call at a time; see nfs_rpc_connection.h.
#include "store/nfs_rpc_connection.h"

#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <thread>

#include "store/nfs_rpc.h"
#include "store/xdr.h"

namespace farswap::nfs {
namespace {

using namespace std::chrono_literals;
using std::chrono::steady_clock;

constexpr auto kPatience = 100ms;  // between calls that the server puts off

Status late() {
    return fail(ETIMEDOUT, "no answer from the server in time");
}

}  // namespace

RpcConnection::RpcConnection(Deadline deadline)
    : RpcConnection(Fd(), deadline, static_cast<std::uint32_t>(random_number())) {}

RpcConnection::RpcConnection(Fd connected, Deadline deadline, std::uint32_t xid)
    : fd_(std::move(connected)), deadline_(deadline), xid_(xid) {}

Result<Address> RpcConnection::peer() const {
    Address address;
    address.size = sizeof address.storage;
    if (!fd_ || ::getpeername(fd_.get(), reinterpret_cast<sockaddr*>(&address.storage), &address.size) < 0)
        return fail(ENOTCONN, "the connection is gone");
    return address;
}

Status RpcConnection::open(const std::string& host, int port, LocalPort local) {
    addrinfo hints{}, *found = nullptr;
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_NUMERICSERV;
    const int error = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
    if (error != 0) return fail(EHOSTUNREACH, "{}", ::gai_strerror(error));
    const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> list(found, &::freeaddrinfo);
    std::vector<Address> addresses;
    for (const addrinfo* at = found; at != nullptr; at = at->ai_next) {
        Address& address = addresses.emplace_back();
        address.size = at->ai_addrlen;
        std::memcpy(&address.storage, at->ai_addr, address.size);
    }
    return open(addresses, local);
}

Status RpcConnection::open(std::span<const Address> addresses, LocalPort local) {
    const Deadline whole = deadline_;
    Status status = fail(EHOSTUNREACH, "it has no address");
    for (auto untried = std::ssize(addresses); untried > 0 && !status; --untried) {
        const auto now = steady_clock::now();
        deadline_ = now + (whole - now) / untried;
        status = open_address(addresses.last(static_cast<std::size_t>(untried)).front(), local);
    }
    deadline_ = whole;
    return status;
}

Status RpcConnection::open_address(const Address& address, LocalPort local) {
    fd_.reset(::socket(address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (!fd_) return fail(errno, "{}", ::strerrordesc_np(errno));
    const int on = 1;
    (void)::setsockopt(fd_.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (local == LocalPort::kReserved) bind_reserved_port(fd_.get(), address, xid_);
    int error = 0;
    if (::connect(fd_.get(), reinterpret_cast<const sockaddr*>(&address.storage), address.size) < 0) {
        error = errno;
        if (error == EINPROGRESS) {
            if (auto status = wait_for(POLLOUT); !status) return status;
            socklen_t size = sizeof error;
            if (::getsockopt(fd_.get(), SOL_SOCKET, SO_ERROR, &error, &size) < 0) error = errno;
        }
    }
    if (error == 0) return {};
    fd_.reset();
    return fail(error, "{}", ::strerrordesc_np(error));
}

/// Until the socket is ready or the deadline has come.
Status RpcConnection::wait_for(short events) {
    while (true) {
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline_ - steady_clock::now());
        pollfd poller{fd_.get(), events, 0};
        const int ready = left.count() <= 0 ? 0 : ::poll(&poller, 1, static_cast<int>(left.count()));
        if (ready > 0) return {};
        if (ready < 0 && errno == EINTR) continue;
        const Status why = ready == 0 ? late() : fail_errno(errno, "poll");
        fd_.reset();
        return why;
    }
}

Status RpcConnection::send(std::span<const std::byte> call, std::span<const std::byte> data) {
    const std::span<const std::byte> pad(xdr::kPadding.data(),
                                         xdr::padding(static_cast<std::uint32_t>(data.size())));
    std::array<iovec, 3> parts;
    std::size_t left = 0;
    for (std::size_t i = 0; const auto& part : {call, data, pad}) {
        parts[i++] = {const_cast<std::byte*>(part.data()), part.size()};
        left += part.size();
    }
    while (left > 0) {
        msghdr message{};
        message.msg_iov = parts.data();
        message.msg_iovlen = parts.size();
        const ssize_t sent = ::sendmsg(fd_.get(), &message, MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) {
            if (auto status = wait_for(POLLOUT); !status) return status;
            continue;
        }
        if (sent < 0 && errno == EINTR) continue;
        if (sent < 0) return fail_errno(errno, "lost the connection");
        auto skip = static_cast<std::size_t>(sent);
        left -= skip;
        for (iovec& part : parts) {
            const std::size_t taken = std::min(skip, part.iov_len);
            part.iov_base = static_cast<std::byte*>(part.iov_base) + taken;
            part.iov_len -= taken;
            skip -= taken;
        }
    }
    return {};
}

Status RpcConnection::receive(std::span<std::byte> into) {
    while (!into.empty()) {
        const ssize_t got = ::recv(fd_.get(), into.data(), into.size(), 0);
        if (got < 0 && errno == EAGAIN) {
            if (auto status = wait_for(POLLIN); !status) return status;
            continue;
        }
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return fail_errno(errno, "lost the connection");
        if (got == 0) return fail_errno(ECONNRESET, "lost the connection");
        into = into.subspan(static_cast<std::size_t>(got));
    }
    return {};
}

/// Fills `reply_` with the next record, fragment after fragment.
Status RpcConnection::receive_record() {
    reply_.clear();
    for (bool last = false; !last;) {
        // A server that is always ready is not waited for: fragments of a byte would hold us for seconds.
        if (steady_clock::now() >= deadline_) return late();
        std::array<std::byte, 4> mark;
        if (auto status = receive(mark); !status) return status;
        const std::uint32_t word = xdr::load_u32(mark.data()), size = word & ~kLastFragment;
        last = (word & kLastFragment) != 0;
        if (size == 0 || size > kReplyMax - reply_.size())
            return fail(EPROTO, "a reply that cannot be decoded");
        const std::size_t at = reply_.size();
        reply_.resize(at + size);
        if (auto status = receive(std::span(reply_).subspan(at)); !status) return status;
    }
    return {};
}

Result<std::span<const std::byte>> RpcConnection::exchange(const char* what, std::span<const std::byte> call,
                                                           std::span<const std::byte> data) {
    if (!fd_) return fail(ENOTCONN, "{}: the connection is gone", what);
    // A server that is always ready is not waited for, and could go on for ever.
    Status status = steady_clock::now() < deadline_ ? send(call, data) : late();
    if (status) status = receive_record();
    if (status && (reply_.size() < 4 || xdr::load_u32(reply_.data()) != xid_))
        status = fail(EPROTO, "a reply to something else");
    if (status) return std::span<const std::byte>(reply_);
    fd_.reset();
    return fail(status.error().code, "{}: {}", what, status.error().message);
}

std::unexpected<Error> RpcConnection::malformed(const char* what) noexcept {
    fd_.reset();
    return fail(EPROTO, "{}: a reply that cannot be decoded", what);
}

Status RpcConnection::be_patient(const char* what) const {
    if (steady_clock::now() + kPatience >= deadline_) {
        return fail(
            ETIMEDOUT,
            "{}: the server puts it off; when it has just been started it does so for a minute or two", what);
    }
    std::this_thread::sleep_for(kPatience);
    return {};
}

}  // namespace farswap::nfs
