// See scripted_server.h.
#include "scripted_server.h"

#include <arpa/inet.h>
#include <endian.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "store/lease.h"

namespace farswap::test {
namespace {

constexpr nfs::Procedure kNull{0};  // asks whether anybody is there

/// Words of a call, from the xid on.
class Words {
  public:
    explicit Words(std::span<const std::byte> bytes) : bytes_(bytes) {}
    std::uint32_t u32() {
        const auto value = nfs::load_u32(bytes_.data());
        bytes_ = bytes_.subspan(4);
        return value;
    }
    std::uint64_t u64() {
        const std::uint64_t high = u32();
        return high << 32 | u32();
    }
    void skip_opaque() {
        const auto size = u32();
        bytes_ = bytes_.subspan(size + nfs::padding(size));
    }

  private:
    std::span<const std::byte> bytes_;
};

ScriptedServer::Call decode(std::span<const std::byte> record) {
    ScriptedServer::Call call;
    Words words(record);
    call.xid = words.u32();
    for (int i = 0; i < 4; ++i) words.u32();  // CALL, RPC version, program, its version
    call.procedure = static_cast<nfs::Procedure>(words.u32());
    if (call.procedure == kNull) return call;
    for (int i = 0; i < 2; ++i) {  // credential, verifier
        words.u32();
        words.skip_opaque();
    }
    words.skip_opaque();  // file handle
    call.offset = words.u64();
    call.count = words.u32();
    return call;
}

/// RFC 5531 section 9, RFC 1813 sections 3.3.6, 3.3.7 and 3.3.21.
std::vector<std::byte> encode(const ScriptedServer::Call& call, const ScriptedServer::Answer& answer) {
    std::vector<std::byte> reply(4);
    const auto u32 = [&](std::uint32_t value) {
        const auto big = htobe32(value);
        const auto at = reply.size();
        reply.resize(at + sizeof big);
        std::memcpy(reply.data() + at, &big, sizeof big);
    };
    const auto verifier = [&] {
        u32(std::uint32_t{answer.verifier} << 24);
        u32(0);
    };
    for (const std::uint32_t word : {call.xid, 1u, 0u, 0u, 0u, 0u}) u32(word);
    const bool read = call.procedure == nfs::Procedure::kRead;
    if (call.procedure != kNull) {
        u32(answer.status);
        for (int i = 0; i < (read && !answer.attributes ? 1 : 2); ++i)
            u32(read && answer.attributes && i == 0);
        if (read && answer.attributes)
            for (int i = 0; i < 20; ++i) u32(0);  // 84 bytes of them
    }
    if (call.procedure == kNull || answer.status != 0) {
        // Nothing follows.
    } else if (read) {
        const std::uint32_t count = call.count - std::min(answer.less, call.count);
        for (const std::uint32_t word : {count, 0u, count}) u32(word);
        const auto at = reply.size();
        reply.resize(at + count + nfs::padding(count));
        for (std::uint32_t i = 0; answer.counting && i < count; ++i)
            reply[at + i] = static_cast<std::byte>((call.offset + i) / 8);
        if (answer.lease_nonce != 0 && call.count >= kLeaseSize) {
            Lease lease;
            lease.nonce = answer.lease_nonce;
            encode_lease(lease, LeaseBlock(reply.data() + at, kLeaseSize));
        }
    } else {
        if (call.procedure == nfs::Procedure::kWrite) {
            u32(call.count - answer.less);
            u32(answer.stable ? 2 : 0);  // FILE_SYNC or UNSTABLE: stable_how, RFC 1813 section 3.3.7
        }
        verifier();
    }
    const auto mark = htobe32(static_cast<std::uint32_t>(reply.size() - 4) | nfs::kLastFragment);
    std::memcpy(reply.data(), &mark, sizeof mark);
    return reply;
}

bool receive(int fd, std::span<std::byte> into) {
    return ::recv(fd, into.data(), into.size(), MSG_WAITALL) == static_cast<ssize_t>(into.size());
}

}  // namespace

ScriptedServer::ScriptedServer(Script script)
    : script_(std::move(script)), listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    auto& address = reinterpret_cast<sockaddr_in&>(address_.storage);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address_.size = sizeof address;
    auto* const any = reinterpret_cast<sockaddr*>(&address_.storage);
    if (::bind(listener_.get(), any, address_.size) != 0 || ::listen(listener_.get(), 8) != 0 ||
        ::getsockname(listener_.get(), any, &address_.size) != 0) {
        throw std::runtime_error("cannot listen");
    }
    acceptor_ = std::thread([this] { accept(); });
}

ScriptedServer::~ScriptedServer() {
    ::shutdown(listener_.get(), SHUT_RDWR);
    acceptor_.join();
    disconnect();
    for (std::thread& server : servers_) server.join();
}

void ScriptedServer::disconnect() {
    const std::lock_guard lock(mutex_);
    for (const Fd& connection : connections_) ::shutdown(connection.get(), SHUT_RDWR);
}

std::uint16_t ScriptedServer::port() const {
    return ntohs(reinterpret_cast<const sockaddr_in&>(address_.storage).sin_port);
}

void ScriptedServer::accept() {
    while (true) {
        Fd connection(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
        if (!connection) return;
        const std::lock_guard lock(mutex_);
        servers_.emplace_back([this, fd = connection.get()] { serve(fd); });
        connections_.push_back(std::move(connection));
    }
}

void ScriptedServer::serve(int fd) const {
    std::array<std::byte, 4> mark;
    std::vector<std::byte> record;
    while (receive(fd, mark)) {
        record.resize(nfs::load_u32(mark.data()) & ~nfs::kLastFragment);
        if (!receive(fd, record)) return;
        const Call call = decode(record);
        const auto answer = call.procedure == kNull ? std::optional(Answer{}) : script_(call);
        if (!answer) continue;
        auto reply = encode(call, *answer);
        if (answer->malformed) std::ranges::fill(reply, std::byte{0x7f});
        if (::send(fd, reply.data(), reply.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(reply.size()))
            return;
    }
}

}  // namespace farswap::test
