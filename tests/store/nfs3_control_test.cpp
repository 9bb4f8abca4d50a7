// The control plane of NFSv3 against replies that a test has written: what is sent, and what is made of what
// comes.
#include "store/nfs3_control.h"

#include <gmock/gmock.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "store/nfs3_mount.h"
#include "store/nfs3_service.h"
#include "store/nfs_listing.h"
#include "store/nfs_rpcbind.h"
#include "words.h"

namespace farswap::nfs {
namespace {

using namespace std::chrono_literals;
using test::Bytes, test::Words;
using testing::AllOf, testing::ElementsAre, testing::HasSubstr, testing::Not;

constexpr auto kEnough = 20s;                       // that no test waits for
constexpr auto kOneWait = 150ms;                    // one repetition of a call that is put off, and not two
constexpr std::uint32_t kFattr3 = 84;               // bytes
constexpr std::uint32_t kDirectory = 2, kFile = 1;  // RFC 1813 section 2.6, ftype3
constexpr std::uint32_t kJukebox = 10008;

/// A server whose replies to the calls numbered from 1 lie in a socket already.
class Nfs3ControlTest : public testing::Test {
  protected:
    Nfs3ControlTest() {
        int ends[2];
        EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
        ours_.reset(ends[0]);
        server_.reset(ends[1]);
    }
    RpcConnection connection(std::chrono::milliseconds limit = kEnough) {
        return {std::move(ours_), std::chrono::steady_clock::now() + limit, 0};
    }
    Control3 control(std::chrono::milliseconds limit = kEnough) { return {connection(limit), Server{}}; }

    /// The reply to the next call: accepted, with these results; in records of `fragment` bytes.
    void reply(const Words& results, std::size_t fragment = ~std::size_t{0}) {
        Bytes body = test::accepted(++xid_).raw(results.bytes).bytes;
        for (std::size_t at = 0; at < body.size(); at += std::min(fragment, body.size() - at)) {
            const std::size_t size = std::min(fragment, body.size() - at);
            const std::uint32_t last = at + size == body.size() ? kLastFragment : 0;
            const Bytes piece(body.begin() + static_cast<std::ptrdiff_t>(at),
                              body.begin() + static_cast<std::ptrdiff_t>(at + size));
            put(Words().u32(static_cast<std::uint32_t>(size) | last).raw(piece).bytes);
        }
    }
    void put(const Bytes& bytes) {
        ASSERT_EQ(::send(server_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
                  static_cast<ssize_t>(bytes.size()));
    }
    /// Procedure of the next call that came, and its arguments.
    std::pair<std::uint32_t, Bytes> call() {
        Bytes mark(4);
        EXPECT_EQ(::recv(server_.get(), mark.data(), 4, 0), 4);
        Bytes body(xdr::load_u32(mark.data()) & ~kLastFragment);
        EXPECT_EQ(::recv(server_.get(), body.data(), body.size(), 0), static_cast<ssize_t>(body.size()));
        xdr::Reader reader(body);
        reader.skip(20);
        const std::uint32_t procedure = reader.u32();
        for (int i = 0; i < 2; ++i) {  // credential and verifier
            reader.u32();
            (void)reader.opaque(400);
        }
        return {procedure, Bytes(body.begin() + static_cast<std::ptrdiff_t>(reader.at()), body.end())};
    }

    static FileHandle handle(std::uint8_t first) {
        FileHandle handle;
        handle.size = 4;
        handle.bytes[0] = std::byte{first};
        return handle;
    }
    static Words put_handle(Words words, std::uint8_t first) {
        return words.u32(4).u32(std::uint32_t{first} << 24);
    }
    static Words attributes(Words words, std::uint32_t type, std::uint64_t size) {
        return words.u32(type).fill(16, 0).u64(size).fill(kFattr3 - 28, 0);
    }
    static Words entry(Words words, std::uint64_t cookie, const std::string& name) {
        return words.u32(1).u64(99).text(name).u64(cookie);
    }
    static Words listing() { return Words().u32(0).u32(0).u64(7); }  // and entries, and whether it is the end

    Fd ours_, server_;
    std::uint32_t xid_ = 0;
};

TEST_F(Nfs3ControlTest, LookupSendsDirectoryAndNameAndFindsWhoItIs) {
    reply(attributes(put_handle(Words().u32(0), 9).u32(1), kDirectory, 4096).u32(0));
    const auto found = control().lookup(handle(5), "swap");
    ASSERT_TRUE(found) << found.error().message;
    EXPECT_EQ(found->handle.bytes[0], std::byte{9});
    EXPECT_TRUE(found->directory);
    EXPECT_EQ(found->size, 4096u);
    const auto [procedure, arguments] = call();
    EXPECT_EQ(procedure, 3u);
    EXPECT_EQ(arguments, put_handle(Words(), 5).text("swap").bytes);
}

TEST_F(Nfs3ControlTest, LookupThatDoesNotSayWhoItIsAsks) {
    reply(put_handle(Words().u32(0), 9).u32(0).u32(0));
    reply(attributes(Words().u32(0), kFile, 5));
    const auto found = control().lookup(handle(5), "swap");
    ASSERT_TRUE(found) << found.error().message;
    EXPECT_FALSE(found->directory);
    EXPECT_EQ(found->size, 5u);
    (void)call();
    const auto [procedure, arguments] = call();
    EXPECT_EQ(procedure, 1u);
    EXPECT_EQ(arguments, put_handle(Words(), 9).bytes);
}

TEST_F(Nfs3ControlTest, CreateIsGuardedAndOfMode600AndTakesTheHandleFromWhereverItIs) {
    reply(Words().u32(0).u32(0).u32(0).u32(0).u32(0));
    reply(attributes(put_handle(Words().u32(0), 9).u32(1), kFile, 0).u32(0));
    const auto made = control().create(handle(5), "farswap-1");
    ASSERT_TRUE(made) << made.error().message;
    EXPECT_EQ(made->bytes[0], std::byte{9});
    const auto [procedure, arguments] = call();
    EXPECT_EQ(procedure, 8u);
    EXPECT_EQ(arguments, put_handle(Words(), 5).text("farswap-1").u32(1).u32(1).u32(0600).fill(20, 0).bytes);
}

TEST_F(Nfs3ControlTest, CallThatTheServerPutsOffIsMadeAgain) {
    reply(Words().u32(kJukebox).u32(0));
    reply(put_handle(Words().u32(0).u32(1), 9).u32(0).u32(0).u32(0));
    EXPECT_TRUE(control().create(handle(5), "farswap-1"));
}

TEST_F(Nfs3ControlTest, ServerThatPutsOffForeverIsSaidToDoSo) {
    for (int i = 0; i < 3; ++i) reply(Words().u32(kJukebox).u32(0));
    const auto made = control(kOneWait).create(handle(5), "farswap-1");
    ASSERT_FALSE(made);
    EXPECT_EQ(made.error().code, ETIMEDOUT);
    EXPECT_THAT(made.error().message, HasSubstr("puts it off"));
}

TEST_F(Nfs3ControlTest, NothingIsAskedOnceTheTimeIsOver) {
    reply(attributes(Words().u32(0), kFile, 5));
    EXPECT_EQ(control(0ms).attributes(handle(5)).error().code, ETIMEDOUT);
}

TEST_F(Nfs3ControlTest, ReplyMayComeInFragments) {
    reply(attributes(Words().u32(0), kFile, 5), 7);
    const auto found = control().attributes(handle(5));
    ASSERT_TRUE(found) << found.error().message;
    EXPECT_EQ(found->size, 5u);
}

// A server that always has something to say is never waited for.
TEST_F(Nfs3ControlTest, EndlessFragmentsEndAtTheDeadline) {
    Words fragments;
    for (int i = 0; i < 10'000; ++i) fragments.u32(1).fill(1, 0);
    const Fd server = std::move(server_);
    std::jthread sender([&](const std::stop_token& stop) {
        for (std::size_t at = 0; !stop.stop_requested(); at %= fragments.bytes.size()) {
            pollfd room{server.get(), POLLOUT, 0};
            (void)::poll(&room, 1, 10);
            const ssize_t sent =
                ::send(server.get(), fragments.bytes.data() + at, fragments.bytes.size() - at, MSG_NOSIGNAL);
            if (sent > 0) at += static_cast<std::size_t>(sent);
        }
    });
    Control3 client = control(50ms);
    EXPECT_EQ(client.attributes(handle(5)).error().code, ETIMEDOUT);
    EXPECT_TRUE(client.broken());
}

TEST_F(Nfs3ControlTest, ListsOnlyNamesThatAFileOfOursCanHave) {
    reply(entry(entry(entry(listing(), 3, "farswap-1"), 4, "other"), 5, "farswap-\x1b[2J").u32(0).u32(0));
    reply(
        entry(entry(entry(listing(), 6, "farswap-/x"), 7, "farswap-" + std::string(300, 'x')), 8, "farswap-2")
            .u32(0)
            .u32(1));
    const auto names = control().list(handle(5), "farswap-");
    ASSERT_TRUE(names) << names.error().message;
    EXPECT_THAT(*names, ElementsAre("farswap-1", "farswap-2"));
    (void)call();
    const auto [procedure, arguments] = call();
    EXPECT_EQ(procedure, 16u);
    EXPECT_EQ(arguments, put_handle(Words(), 5).u64(5).u64(7).u32(kListBytes).bytes);
}

TEST_F(Nfs3ControlTest, ListingThatGoesRoundInCirclesEnds) {
    for (int i = 0; i < 3; ++i) reply(entry(listing(), 3, "farswap-1").u32(0).u32(0));
    Control3 server = control();
    EXPECT_EQ(server.list(handle(5), "farswap-").error().code, EPROTO);
    EXPECT_TRUE(server.broken());
}

TEST_F(Nfs3ControlTest, ReadGivesNoMoreThanWasAskedFor) {
    reply(Words().u32(0).u32(0).u32(8).u32(1).u32(8).u64(1));
    Control3 server = control();
    Bytes memory(4);
    EXPECT_EQ(server.read(handle(5), 0, memory).error().code, EPROTO);
    EXPECT_TRUE(server.broken());
    EXPECT_EQ(memory, Bytes(4));
}

TEST_F(Nfs3ControlTest, ReadWhoseBytesAreMissingIsNoReply) {
    reply(Words().u32(0).u32(0).u32(8).u32(1).u32(8).u32(1));
    Bytes memory(8);
    EXPECT_EQ(control().read(handle(5), 0, memory).error().code, EPROTO);
}

TEST_F(Nfs3ControlTest, WritesPieceAfterPieceAndNoticesAServerThatRestarted) {
    const auto written = [](std::uint32_t count, std::uint64_t verifier) {
        return Words().u32(0).u32(0).u32(0).u32(count).u32(0).u64(verifier);
    };
    reply(written(8, 1));
    reply(written(4, 1));  // less than was sent
    reply(written(6, 2));
    Verifier verifier{};
    const auto same = control().write(handle(5), 100, Bytes(18), 8, verifier);
    ASSERT_TRUE(same) << same.error().message;
    EXPECT_FALSE(*same);
    EXPECT_EQ(verifier.back(), std::byte{2});
    for (const auto& [offset, count] : {std::pair{100u, 8u}, {108u, 8u}, {112u, 6u}}) {
        const auto [procedure, arguments] = call();
        EXPECT_EQ(procedure, 7u);
        EXPECT_EQ(arguments, put_handle(Words(), 5)
                                 .u64(offset)
                                 .u32(count)
                                 .u32(0)
                                 .u32(count)
                                 .fill(count + xdr::padding(count), 0)
                                 .bytes);
    }
}

TEST_F(Nfs3ControlTest, MountTakesTheHandle) {
    reply(put_handle(Words().u32(0), 9).u32(2).u32(390003).u32(1));
    RpcClient mountd(connection(), kMountProgram, {});
    const auto root = mount_export(mountd, "/srv");
    ASSERT_TRUE(root) << root.error().message;
    EXPECT_EQ(root->bytes[0], std::byte{9});
    const auto [procedure, arguments] = call();
    EXPECT_EQ(procedure, 1u);
    EXPECT_EQ(arguments, Words().text("/srv").bytes);
}

TEST_F(Nfs3ControlTest, MountSaysThatOnlyKerberosWillDo) {
    reply(put_handle(Words().u32(0), 9).u32(1).u32(390003));
    RpcClient mountd(connection(), kMountProgram, {});
    const auto root = mount_export(mountd, "/srv");
    ASSERT_FALSE(root);
    EXPECT_THAT(root.error().message, HasSubstr("sec=sys"));
    // Neither what is said of a server without NFSv3, which would be tried by NFSv4.1, nor of a directory
    // above.
    EXPECT_EQ(root.error().code, ENOKEY);
}

TEST_F(Nfs3ControlTest, MountWhereNobodyIsAskedWhoHeIsTakesTheHandle) {
    reply(put_handle(Words().u32(0), 9).u32(2).u32(390003).u32(0));
    RpcClient mountd(connection(), kMountProgram, {});
    const auto root = mount_export(mountd, "/srv");
    ASSERT_TRUE(root) << root.error().message;
    EXPECT_EQ(root->bytes[0], std::byte{9});
}

// What libnfs 4.0.0 wrote behind its memory for.
TEST_F(Nfs3ControlTest, MountWithAGreatNumberOfFlavoursIsNoReply) {
    reply(put_handle(Words().u32(0), 9).u32(0x4000'0001).fill(64, 0x41));
    RpcClient mountd(connection(), kMountProgram, {});
    EXPECT_EQ(mount_export(mountd, "/srv").error().code, EPROTO);
    EXPECT_TRUE(mountd.connection().broken());
}

TEST_F(Nfs3ControlTest, VerifierOfTwoGibibytesIsNoReply) {
    put(Words().u32(24 | kLastFragment).u32(1).u32(1).u32(0).u32(6).u32(0x7fff'fff0).u32(0).bytes);
    EXPECT_EQ(control().attributes(handle(5)).error().code, EPROTO);
}

TEST_F(Nfs3ControlTest, PortmapperIsAskedForTcp) {
    reply(Words().u32(20049));
    const auto port = ask_portmapper(connection(), {100003, 3});
    ASSERT_TRUE(port) << port.error().message;
    EXPECT_EQ(*port, 20049);
    const auto [procedure, arguments] = call();
    EXPECT_EQ(procedure, 3u);
    EXPECT_EQ(arguments, Words().u32(100003).u32(3).u32(6).u32(0).bytes);
}

TEST_F(Nfs3ControlTest, PortBeyondAllPortsIsNoReply) {
    reply(Words().u32(65536));
    EXPECT_EQ(ask_portmapper(connection(), {100003, 3}).error().code, EPROTO);
}

TEST_F(Nfs3ControlTest, RpcbindIsAskedForTcpOverIpv6) {
    reply(Words().text("::.8.1"));
    const auto port = ask_rpcbind6(connection(), {100003, 3});
    ASSERT_TRUE(port) << port.error().message;
    EXPECT_EQ(*port, 2049);
    EXPECT_EQ(call().second, Words().u32(100003).u32(3).text("tcp6").u32(0).u32(0).bytes);
}

TEST(PortUnknownTest, SaysWhatToDo) {
    const auto message = [](int code) {
        return port_unknown("the NFS service", "filer", {code, "why"}).error().message;
    };
    EXPECT_THAT(message(EPROTONOSUPPORT),
                AllOf(HasSubstr("does not speak NFSv3: why"), HasSubstr("?version=4")));
    EXPECT_THAT(message(EPROTONOSUPPORT), Not(HasSubstr("is the server up")));
    EXPECT_THAT(message(ETIMEDOUT), AllOf(HasSubstr("port 111"), HasSubstr("?nfsport=")));
}

/// A listener on the loopback interface. `full`: it takes no connection any more, and does not say so.
class Listener {
  public:
    explicit Listener(bool full) : fd_(new_socket()) {
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        EXPECT_EQ(::bind(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
        EXPECT_EQ(::listen(fd_.get(), 0), 0);
        address_.size = sizeof address_.storage;
        EXPECT_EQ(::getsockname(fd_.get(), socket_address(), &address_.size), 0);
        for (int i = 0; full && i < 4; ++i) {
            waiting_.push_back(new_socket());
            (void)::connect(waiting_.back().get(), socket_address(), address_.size);
        }
    }
    const Address& address() const { return address_; }

  private:
    static Fd new_socket() { return Fd(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)); }
    sockaddr* socket_address() { return reinterpret_cast<sockaddr*>(&address_.storage); }

    Fd fd_;
    Address address_;
    std::vector<Fd> waiting_;
};

TEST(RpcConnectionTest, AddressThatSwallowsCallsLeavesTimeForTheNext) {
    const Listener silent(true), good(false);
    RpcConnection connection(std::chrono::steady_clock::now() + 500ms);
    const std::array addresses{silent.address(), good.address()};
    const auto status = connection.open(addresses, RpcConnection::LocalPort::kAny);
    ASSERT_TRUE(status) << status.error().message;
    EXPECT_FALSE(connection.broken());
    EXPECT_EQ(connection.open(std::span(addresses).first(1), RpcConnection::LocalPort::kAny).error().code,
              ETIMEDOUT);
}

TEST(UniversalAddressTest, EndsInThePort) {
    EXPECT_EQ(port_of_universal_address("127.0.0.1.8.1"), 2049);
    EXPECT_EQ(port_of_universal_address("::1.255.255"), 65535);
    for (const char* none :
         {"", ".", "8.1", "..", "::.8", "::.256.1", "::.8.-1", "::.8.1x", "::.8. 1", "::..1"})
        EXPECT_EQ(port_of_universal_address(none), 0) << none;
}

TEST(ListingTest, HasALimit) {
    Listing listing("farswap-");
    const std::string name = "farswap-1";
    bool good = true;
    std::uint64_t cookie = 0;
    for (; good && cookie < 2 * Listing::kNamesMax; good = listing.end_reply(false))
        listing.take(++cookie, std::as_bytes(std::span(name)));
    EXPECT_FALSE(good);
    EXPECT_EQ(listing.names().size(), Listing::kNamesMax + 1);
}

}  // namespace
}  // namespace farswap::nfs
