// Times NULL calls to the NFS service of a URL: what a server's answer costs at least. See nfs_store.h.
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/random.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "base/fd.h"
#include "store/nfs_control.h"
#include "store/nfs_rpc.h"
#include "store/nfs_server_url.h"
#include "store/nfs_store.h"

namespace farswap {
namespace {

using namespace nfs;
using std::chrono::steady_clock;

constexpr std::uint32_t kNfsProgram = 100003;
constexpr auto kAnswerMax = std::chrono::seconds(5);

/// One call on a connection of its own, blocking.
class NullCalls {
  public:
    NullCalls(Fd fd, std::uint32_t version) : fd_(std::move(fd)) {
        xdr::Writer out(call_);
        put_rpc_call(out, {.machine = {}}, kNfsProgram, version);
        size_ = out.size();
        xdr::Writer(call_).u32(kLastFragment | (size_ - 4));
    }

    Result<std::chrono::nanoseconds> make() {
        xdr::Writer(std::span<std::byte>(call_).subspan(kXidAt)).u32(++xid_);
        const auto began = steady_clock::now();
        if (::send(fd_.get(), call_.data(), size_, MSG_NOSIGNAL) != static_cast<ssize_t>(size_))
            return fail_errno(errno, "cannot send a NULL call");
        std::array<std::byte, 4 + kRpcReplyMax> reply;
        std::size_t have = 0, wanted = 4;
        while (have < wanted) {
            pollfd waited{fd_.get(), POLLIN, 0};
            if (::poll(&waited, 1, static_cast<int>(std::chrono::milliseconds(kAnswerMax).count())) <= 0)
                return fail(ETIMEDOUT, "a NULL call was not answered in {} s", kAnswerMax.count());
            const ssize_t got = ::recv(fd_.get(), reply.data() + have, wanted - have, 0);
            if (got <= 0) return fail(ECONNRESET, "the server closed the connection after a NULL call");
            have += static_cast<std::size_t>(got);
            if (have == 4) wanted += xdr::load_u32(reply.data()) & ~kLastFragment;
            if (wanted > reply.size()) return fail(EBADMSG, "a NULL call got an answer that is too long");
        }
        const auto took = steady_clock::now() - began;
        xdr::Reader reader(std::span<const std::byte>(reply).subspan(4, wanted - 4));
        int error = 0;
        if (!take_rpc_reply(reader, error) || error != 0 || reader.short_of_bytes())
            return fail(EPROTO, "a NULL call was refused");
        return took;
    }

  private:
    Fd fd_;
    std::array<std::byte, kRpcCallMax> call_{};
    std::uint32_t size_ = 0;
    std::uint32_t xid_ = 0;
};

Result<NullCalls> connect(const Server& server) {
    auto control = Control::connect(server, steady_clock::now() + kAnswerMax);
    if (!control) return std::unexpected(control.error());
    const auto peer = (*control)->peer();
    if (!peer) return std::unexpected(peer.error());
    Fd fd(::socket(peer->storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!fd) return fail_errno(errno, "cannot make a socket");
    const int on = 1;
    (void)::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    bind_reserved_port(fd.get(), *peer, static_cast<std::uint32_t>(::getpid()));
    if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&peer->storage), peer->size) != 0)
        return fail_errno(errno, "cannot connect to the NFS service");
    return NullCalls(std::move(fd), static_cast<std::uint32_t>(server.version));
}

}  // namespace

Result<std::vector<std::chrono::nanoseconds>> time_nfs_null_calls(const Url& url,
                                                                  std::chrono::milliseconds span) {
    const auto server = server_of(url);
    if (!server) return std::unexpected(server.error());
    auto calls = connect(*server);
    if (!calls) return std::unexpected(calls.error());
    std::vector<std::chrono::nanoseconds> took;
    for (const auto end = steady_clock::now() + span; steady_clock::now() < end || took.empty();) {
        const auto one = calls->make();
        if (!one) return std::unexpected(one.error());
        took.push_back(*one);
    }
    return took;
}

}  // namespace farswap
