// The whole server, asked by the pager's own code and by fake clients.
#include "daemon/server.h"

#include <netinet/in.h>

#include <cstdlib>

#include "daemon_fixture.h"
#include "target/helper.h"

namespace farswap::daemon {
namespace {

using target::helper_device;
using target::helper_enable;
using testing::HasSubstr;

int become_nobody() {
    return setgroups(0, nullptr) != 0 || setresgid(kNobody, kNobody, kNobody) != 0 ||
           setresuid(kNobody, kNobody, kNobody) != 0;
}

/// Asks as another user: 0, or the errno.
int ask_as_nobody() {
    return Child([] {
               if (become_nobody() != 0) return 99;
               const auto device = helper_device();
               return device ? 0 : device.error().code;
           })
        .status();
}

class ServerTest : public FolderTest {
  protected:
    void SetUp() override {
        FolderTest::SetUp();
        setenv("FARSWAPD_SOCKET", socket_path().c_str(), 1);
    }
    void TearDown() override {
        server_.reset();
        unsetenv("FARSWAPD_SOCKET");
        FolderTest::TearDown();
    }
    /// The socket is there when it returns.
    void serve(const Limits& limits, std::vector<uid_t> users = {}) {
        auto listener = listen_for_clients(
            {.socket = socket_path(), .group = {}, .users = std::move(users), .print = {}});
        ASSERT_TRUE(listener) << listener.error().message;
        server_ = std::make_unique<Child>([&] { return Server(std::move(*listener), limits).run() ? 0 : 1; });
    }
    Child& server() { return *server_; }

  private:
    std::unique_ptr<Child> server_;
};

constexpr std::chrono::seconds kForEver{600};

TEST_F(ServerTest, HandsOutBothAndEndsByASignal) {
    serve({});
    const auto device = helper_device();
    ASSERT_TRUE(device) << device.error().message;
    const Fd uffd(ioctl(device->get(), USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK));
    ASSERT_TRUE(uffd);
    const auto enabled = helper_enable(uffd.get(), target::kUffdFeatures);
    EXPECT_TRUE(enabled) << enabled.error().message;
    EXPECT_TRUE(is_enabled(uffd));
    kill(server().process(), SIGTERM);
    EXPECT_EQ(server().status(), 0);
    EXPECT_EQ(helper_device().error().code, ECONNREFUSED);
}

TEST_F(ServerTest, TellsWhyItRefuses) {
    serve({});
    const Fd file(open("/dev/null", O_RDWR | O_CLOEXEC));
    const auto enabled = helper_enable(file.get(), target::kUffdFeatures);
    ASSERT_FALSE(enabled);
    EXPECT_EQ(enabled.error().message, socket_path() + ": the descriptor is not a userfaultfd");
}

TEST_F(ServerTest, AUserWhoMayNotIsToldSo) {
    serve({}, {1});
    EXPECT_EQ(ask_as_nobody(), EACCES);
    EXPECT_TRUE(helper_device());
}

TEST_F(ServerTest, SilentClientsHoldOthersNotUp) {
    serve({.served_per_user_max = 4, .client_max = kForEver});
    std::vector<Fd> silent;
    for (int i = 0; i < 3; ++i) silent.push_back(connect_raw());
    EXPECT_TRUE(helper_device());
}

TEST_F(ServerTest, AUserWhoUsesHisShareUpHoldsOnlyHimselfUp) {
    serve({.served_per_user_max = 1, .client_max = kForEver}, {kNobody});
    const Fd silent = connect_raw(), waiting = connect_raw();
    EXPECT_EQ(ask_as_nobody(), 0);
}

TEST_F(ServerTest, WhoStaysSilentIsHungUpOnAndTheNextIsServed) {
    serve({.served_per_user_max = 1, .client_max = std::chrono::seconds(1)});
    const Fd silent = connect_raw();
    EXPECT_TRUE(helper_device());
    char byte = 0;
    EXPECT_EQ(recv(silent.get(), &byte, 1, 0), 0);
}

TEST_F(ServerTest, TooManyThatWaitAreRefused) {
    serve({.served_per_user_max = 1, .waiting_per_user_max = 1, .client_max = kForEver});
    const Fd silent = connect_raw(), waiting = connect_raw();
    const auto third = helper_device();
    ASSERT_FALSE(third);
    EXPECT_EQ(third.error().code, EAGAIN);
    EXPECT_THAT(third.error().message, HasSubstr("wait already"));
}

TEST_F(ServerTest, WhoIsRefusedWithADescriptorUnreadGetsTheReason) {
    serve({}, {1});
    EXPECT_EQ(Child([] {
                  const Fd uffd = new_userfaultfd();
                  if (become_nobody() != 0) return 99;
                  const auto enabled = helper_enable(uffd.get(), target::kUffdFeatures);
                  return enabled ? 0 : enabled.error().code;
              }).status(),
              EACCES);
}

/// A TCP connection whose peer reads nothing: whoever closes it last waits for that (SO_LINGER, socket(7)).
struct SlowToClose {
    Fd listener, peer, socket;
    SlowToClose() : listener(::socket(AF_INET, SOCK_STREAM, 0)), socket(::socket(AF_INET, SOCK_STREAM, 0)) {
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t size = sizeof address;
        EXPECT_EQ(bind(listener.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
        EXPECT_EQ(listen(listener.get(), 1), 0);
        getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &size);
        EXPECT_EQ(connect(socket.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
        peer.reset(accept(listener.get(), nullptr, nullptr));
        const std::vector<char> bytes(1 << 20);
        while (send(socket.get(), bytes.data(), bytes.size(), MSG_DONTWAIT) > 0) {
        }
        const linger slow{.l_onoff = 1, .l_linger = 600};
        EXPECT_EQ(setsockopt(socket.get(), SOL_SOCKET, SO_LINGER, &slow, sizeof slow), 0);
    }
};

TEST_F(ServerTest, ADescriptorThatIsSlowToCloseHoldsOthersNotUp) {
    serve({.served_per_user_max = 4, .client_max = kForEver}, {1});
    const target::HelperRequest request{.kind = target::HelperRequestKind::kEnable,
                                        .features = target::kUffdFeatures};
    SlowToClose read, unread;
    const auto send_slow = [&](const Fd& client, const SlowToClose& slow) {
        return send_message(client.get(), &request, sizeof request, slow.socket.get());
    };
    // So that the last one to close is not us.
    server().stop();
    const Fd client = connect_raw();
    EXPECT_EQ(send_slow(client, read), 0);
    // From a user who is refused nothing is read: it lies in the socket when that is closed.
    EXPECT_EQ(Child([&] { return become_nobody() != 0 ? 99 : send_slow(connect_raw(), unread); }).status(),
              0);
    for (SlowToClose* slow : {&read, &unread}) slow->socket.reset();
    kill(server().process(), SIGCONT);
    EXPECT_EQ(receive_answer(client.get()).reply.error, EINVAL);
    EXPECT_TRUE(helper_device());
}

TEST_F(ServerTest, ASocketOfAnotherUserIsNotTrusted) {
    auto listener = listen_for_clients({.socket = socket_path(), .group = {}, .users = {}, .print = {}});
    ASSERT_TRUE(listener);
    listener->socket.reset();
    std::filesystem::remove(socket_path());
    chmod(path("").c_str(), 0777);
    Pair ready;
    Child thief([&] {
        if (become_nobody() != 0) return 1;
        const auto made =
            listen_for_clients({.socket = socket_path(), .group = {}, .users = {}, .print = {}});
        send_message(ready.server.get(), "x", 1, -1);
        const Fd client(accept(made->socket.get(), nullptr, nullptr));
        pause();
        return 0;
    });
    char byte = 0;
    ASSERT_EQ(receive_message(ready.client.get(), &byte, 1).bytes, 1u);
    const Fd uffd = new_userfaultfd();
    const auto enabled = helper_enable(uffd.get(), target::kUffdFeatures);
    ASSERT_FALSE(enabled);
    EXPECT_EQ(enabled.error().code, EPERM);
    EXPECT_THAT(enabled.error().message, HasSubstr("user 65534 listens there"));
}

TEST(HelperPeer, RootIsTrustedAndWhomTheCallerNames) {
    using target::HelperPeer;
    using target::is_trusted_helper;
    EXPECT_TRUE(is_trusted_helper({.user = 0, .caller = 1000}));
    EXPECT_FALSE(is_trusted_helper({.user = 1000, .caller = 1000}));
    EXPECT_TRUE(is_trusted_helper({.user = 1000, .named_by_caller = true, .caller = 1000}));
    EXPECT_FALSE(is_trusted_helper({.user = 1001, .named_by_caller = true, .caller = 1000}));
    EXPECT_FALSE(is_trusted_helper({.user = 65534, .named_by_caller = true, .caller = 1000}));
    // From inside of a user namespace the machine's root is one of those who are not known.
    EXPECT_TRUE(is_trusted_helper({.user = 65534, .outside_exists = true, .caller = 0}));
    EXPECT_FALSE(is_trusted_helper({.user = 1000, .outside_exists = true, .caller = 0}));
}

}  // namespace
}  // namespace farswap::daemon
