// One call at a time with an NFSv4.1 server; see nfs4_dialogue.h.
#include "store/nfs4_dialogue.h"

#include <fmt/format.h>
#include <netdb.h>
#include <poll.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <thread>

namespace farswap::nfs::v4 {
namespace {

using namespace std::chrono_literals;
using std::chrono::steady_clock;

constexpr int kPort = 2049;                       // RFC 8881 section 2.9.1
constexpr std::size_t kCallMax = 4096;            // bytes up to the data: a few handles and a name
constexpr std::uint32_t kTransferMax = 1u << 20;  // bytes that are asked for or sent in a call
constexpr std::uint32_t kReplyMax = 2u << 20;     // more than any reply that we ask for
constexpr auto kPatience = 100ms;                 // between calls that the server puts off
constexpr auto kFarewellMax = 500ms;

bool asks_for_patience(std::uint32_t status) {
    return status == status::kDelay || status == status::kGrace;
}

}  // namespace

Dialogue::Dialogue(const Server& server, Deadline deadline, std::uint32_t xid)
    : deadline_(deadline),
      machine_(server.credential.machine),
      prefix_size_(make_prefix(prefix_, server.credential)),
      xid_(xid),
      call_(kCallMax) {}

Dialogue::~Dialogue() {
    if (!fd_ || !in_session_) return;
    deadline_ = steady_clock::now() + kFarewellMax;
    end_session();
}

Result<std::unique_ptr<Dialogue>> Dialogue::connect(const Server& server, Deadline deadline) {
    const int port = server.nfs_port != 0 ? server.nfs_port : kPort;
    const std::string where = fmt::format("the NFS service (port {}) at {}", port, server.host);
    std::unique_ptr<Dialogue> dialogue(
        new Dialogue(server, deadline, static_cast<std::uint32_t>(random_number())));
    auto status = dialogue->open(server.host, port);
    if (status) status = dialogue->make_session();
    if (status) return dialogue;
    const Error& error = status.error();
    switch (error.code) {
        case ETIMEDOUT:
            return fail(ETIMEDOUT, "{} does not answer; is the server up?", where);
        case EPROTONOSUPPORT:
            return fail(EPROTONOSUPPORT, "{} does not speak NFSv4.1; use ?version=3, or switch it on there",
                        where);
        default:
            return fail(error.code, "cannot reach {}: {}; is the server up, and the address right?", where,
                        error.message);
    }
}

Result<std::unique_ptr<Dialogue>> Dialogue::begin(Fd connected, const Server& server, Deadline deadline,
                                                  std::uint32_t xid) {
    std::unique_ptr<Dialogue> dialogue(new Dialogue(server, deadline, xid));
    dialogue->fd_ = std::move(connected);
    if (auto status = dialogue->make_session(); !status) return std::unexpected(status.error());
    return dialogue;
}

Result<Address> Dialogue::peer() const {
    Address address;
    address.size = sizeof address.storage;
    if (!fd_ || ::getpeername(fd_.get(), reinterpret_cast<sockaddr*>(&address.storage), &address.size) < 0)
        return fail(ENOTCONN, "the connection to the NFS service is gone");
    return address;
}

// ---- the connection

Status Dialogue::open(const std::string& host, int port) {
    addrinfo hints{}, *found = nullptr;
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_NUMERICSERV;
    const int error = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
    if (error != 0) return fail(EHOSTUNREACH, "{}; is the name right?", ::gai_strerror(error));
    const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> list(found, &::freeaddrinfo);
    Status status = fail(EHOSTUNREACH, "it has no address");
    for (const addrinfo* at = found; at != nullptr && !status; at = at->ai_next) {
        Address address;
        address.size = at->ai_addrlen;
        std::memcpy(&address.storage, at->ai_addr, address.size);
        status = open_address(address);
    }
    return status;
}

Status Dialogue::open_address(const Address& address) {
    fd_.reset(::socket(address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (!fd_) return fail(errno, "{}", ::strerrordesc_np(errno));
    bind_reserved_port(fd_.get(), address, xid_);
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
Status Dialogue::wait_for(short events) {
    while (true) {
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline_ - steady_clock::now());
        pollfd poller{fd_.get(), events, 0};
        const int ready = left.count() <= 0 ? 0 : ::poll(&poller, 1, static_cast<int>(left.count()));
        if (ready > 0) return {};
        if (ready < 0 && errno == EINTR) continue;
        fd_.reset();
        return ready == 0 ? fail(ETIMEDOUT, "no answer from the server in time") : fail_errno(errno, "poll");
    }
}

Status Dialogue::send(std::span<const std::byte> call, std::span<const std::byte> data) {
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

Status Dialogue::receive(std::span<std::byte> into) {
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
Status Dialogue::receive_record() {
    reply_.clear();
    for (bool last = false; !last;) {
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

/// Sends a call and waits for its reply. After any error the connection is gone.
Result<std::span<const std::byte>> Dialogue::exchange(const char* what, std::span<const std::byte> call,
                                                      std::span<const std::byte> data) {
    if (!fd_) return fail(ENOTCONN, "{}: the connection is gone", what);
    Status status = send(call, data);
    if (status) status = receive_record();
    if (status && (reply_.size() < 4 || xdr::load_u32(reply_.data()) != xid_))
        status = fail(EPROTO, "a reply to something else");
    if (status) return std::span<const std::byte>(reply_);
    fd_.reset();
    return fail(status.error().code, "{}: {}", what, status.error().message);
}

// ---- the session

/// Waits a moment before a call that the server has put off is made again.
Status Dialogue::be_patient(const char* what) {
    if (steady_clock::now() + kPatience >= deadline_) {
        return fail(
            ETIMEDOUT,
            "{}: the server puts it off; when it has just been started it does so for a minute or two", what);
    }
    std::this_thread::sleep_for(kPatience);
    return {};
}

/// An operation that stands alone, outside of a session.
Status Dialogue::step(const char* what, const Put& put, const Take& take) {
    while (true) {
        Compound call(call_, {prefix_.data(), prefix_size_}, ++xid_);
        put(call);
        const auto bytes = exchange(what, {call_.data(), call.finish()}, {});
        if (!bytes) return std::unexpected(bytes.error());
        xdr::Reader reader(*bytes);
        CompoundReply reply;
        const int error = reply.begin(reader);
        const bool done = error == 0 && take(reply, reader);
        if (reply.malformed() || reader.short_of_bytes()) {
            fd_.reset();
            return fail(EPROTO, "{}: a reply that cannot be decoded", what);
        }
        if (error != 0) return fail_errno(-error, "{}", what);
        if (done) return {};
        if (!asks_for_patience(reply.status()))
            return fail_errno(errno_of_status(reply.status()), "{}", what);
        if (auto status = be_patient(what); !status) return status;
    }
}

Status Dialogue::make_session() {
    const std::uint64_t number = random_number();
    const std::string owner = fmt::format("farswap {:.64} {:016x}", machine_, number);
    ClientOwner client{.owner = owner};
    std::memcpy(client.verifier.data(), &number, sizeof number);
    auto status = step(
        "exchange id", [&](Compound& call) { put_exchange_id(call, client); },
        [&](CompoundReply& reply, xdr::Reader& reader) {
            if (!reply.next(reader, Op::kExchangeId)) return false;
            take_exchange_id(reader, client_);
            return true;
        });
    if (!status) return status;
    constexpr Channel kWanted{.request_max = kTransferMax + kOverhead,
                              .response_max = kTransferMax + kOverhead,
                              .operations = kOperationsMax,
                              .slots = 1};
    status = step(
        "create session", [&](Compound& call) { put_create_session(call, client_, kWanted); },
        [&](CompoundReply& reply, xdr::Reader& reader) {
            if (!reply.next(reader, Op::kCreateSession)) return false;
            take_create_session(reader, session_);
            return true;
        });
    if (!status) return status;
    in_session_ = true;
    return run(
        "reclaim complete", [](Compound& call) { put_reclaim_complete(call); },
        [](CompoundReply& reply, xdr::Reader& reader) { return reply.next(reader, Op::kReclaimComplete); });
}

Status Dialogue::run(const char* what, const Put& put, const Take& take, std::span<const std::byte> data) {
    while (true) {
        const Turn turn{.session = session_.id, .sequence = sequence_ + 1};
        Compound call(call_, {prefix_.data(), prefix_size_}, ++xid_);
        put_sequence(call, turn, false);
        put(call);
        const auto size = call.finish(static_cast<std::uint32_t>(data.size()));
        const auto bytes = exchange(what, {call_.data(), size}, data);
        if (!bytes) return std::unexpected(bytes.error());
        xdr::Reader reader(*bytes);
        CompoundReply reply;
        const int error = reply.begin(reader);
        std::uint32_t target = 0;
        bool good = true, done = false;
        const bool turn_taken = error == 0 && reply.next(reader, Op::kSequence);
        if (turn_taken) {
            good = take_sequence(reader, turn, target);
            ++sequence_;
            done = good && take(reply, reader);
        }
        if (!good || reply.malformed() || reader.short_of_bytes()) {
            fd_.reset();
            return fail(EPROTO, "{}: a reply that cannot be decoded", what);
        }
        if (done) return {};
        const bool patience = error == 0 && asks_for_patience(reply.status());
        // Without a session there is nothing more to say.
        if (!turn_taken && !patience) fd_.reset();
        if (error != 0) return fail_errno(-error, "{}", what);
        if (!patience) return fail_errno(errno_of_status(reply.status()), "{}", what);
        if (auto status = be_patient(what); !status) return status;
    }
}

void Dialogue::end_session() {
    const auto ended = step(
        "destroy session",
        [&](Compound& call) { call.op(Op::kDestroySession).raw(session_.id.data(), session_.id.size()); },
        [](CompoundReply& reply, xdr::Reader& reader) { return reply.next(reader, Op::kDestroySession); });
    if (!ended) return;
    // A server that does not answer forgets us when our lease is over.
    (void)step(
        "destroy client", [&](Compound& call) { call.op(Op::kDestroyClientid).u64(client_.id); },
        [](CompoundReply& reply, xdr::Reader& reader) { return reply.next(reader, Op::kDestroyClientid); });
}

}  // namespace farswap::nfs::v4
