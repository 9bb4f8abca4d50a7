// The broker with its relays, asked by fake jobs.
#include "daemon/broker.h"
#include "base/units.h"

#include "cli/share_protocol.h"
#include "daemon_fixture.h"

namespace farswap::daemon {
namespace {

using cli::ShareReply;
using cli::ShareReplyKind;
using cli::ShareRequest;
using cli::ShareRequestKind;
using testing::HasSubstr;

constexpr ShareRequest kAsk{.kind = ShareRequestKind::kAsk, .least = 40 * kMiB, .most = 4000 * kMiB};

class BrokerTest : public FolderTest {
  protected:
    void TearDown() override {
        broker_.reset();
        FolderTest::TearDown();
    }
    void write_config(const std::string& text) {
        const Fd file(open(path("f.toml").c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
        ASSERT_EQ(write(file.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
    }
    /// The socket is there when it returns.
    void serve(const std::string& config, const BrokerLimits& limits = {}) {
        write_config(config);
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        socket_path().copy(address.sun_path, sizeof address.sun_path - 1);
        Fd listener(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
        ASSERT_EQ(bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
        ASSERT_EQ(listen(listener.get(), 64), 0);
        chmod(socket_path().c_str(), 0666);
        broker_ = std::make_unique<Child>([&] {
            auto read = read_config(path("f.toml"), surroundings());
            return read && Broker(std::move(listener), path("f.toml"), *read, limits).run() ? 0 : 1;
        });
    }
    static void send(const Fd& client, const ShareRequest& request) {
        EXPECT_EQ(send_message(client.get(), &request, sizeof request, -1), 0);
    }
    /// Nothing: it was hung up on.
    static std::optional<ShareReply> receive(const Fd& client) {
        ShareReply reply;
        auto received = receive_message(client.get(), &reply, sizeof reply);
        if (received.error == ECONNRESET) received = receive_message(client.get(), &reply, sizeof reply);
        return received.error == 0 && received.bytes > 0 ? std::optional(reply) : std::nullopt;
    }
    Child& broker() { return *broker_; }

  private:
    std::unique_ptr<Child> broker_;
};

const std::string kMachine = "[machine]\nram = \"1000M\"\n";

TEST_F(BrokerTest, GrantsTellsAndTakesBack) {
    serve(kMachine + "[defaults]\nswap = [\"file:/x\"]\n");
    const Fd first = connect_raw();
    send(first, kAsk);
    const auto granted = receive(first);
    ASSERT_TRUE(granted);
    EXPECT_EQ(granted->kind, ShareReplyKind::kGranted);
    EXPECT_EQ(granted->cap, 1000 * kMiB);
    EXPECT_STREQ(granted->text, "swap file:/x\n");
    Fd second = connect_raw();
    send(second, kAsk);
    const auto less = receive(first);
    ASSERT_TRUE(less);
    EXPECT_EQ(less->kind, ShareReplyKind::kCap);
    EXPECT_EQ(less->cap / kMiB, 500u);
    send(first, {.kind = ShareRequestKind::kReport,
                 .serial = less->serial,
                 .cap = less->cap,
                 .least = 40 * kMiB,
                 .most = 4000 * kMiB,
                 .ram = 450 * kMiB,
                 .far = 900 * kMiB});
    const auto half = receive(second);
    ASSERT_TRUE(half);
    EXPECT_EQ(half->cap / kMiB, 500u);
    second.reset();
    const auto all = receive(first);
    ASSERT_TRUE(all);
    EXPECT_EQ(all->cap, 1000 * kMiB);
}

TEST_F(BrokerTest, AKilledBrokerTakesItsRelaysAlong) {
    serve(kMachine);
    const Fd client = connect_raw();
    send(client, kAsk);
    EXPECT_TRUE(receive(client));
    broker().kill();
    EXPECT_FALSE(receive(client));
}

TEST_F(BrokerTest, WithoutABudgetItSaysSo) {
    serve("");
    const Fd client = connect_raw();
    send(client, kAsk);
    const auto reply = receive(client);
    ASSERT_TRUE(reply);
    EXPECT_EQ(reply->kind, ShareReplyKind::kNone);
    EXPECT_FALSE(receive(client));
}

TEST_F(BrokerTest, RefusesAndHangsUp) {
    serve(kMachine);
    const Fd client = connect_raw();
    send(client, {.kind = ShareRequestKind::kAsk, .least = 2000 * kMiB, .most = 3000 * kMiB});
    const auto reply = receive(client);
    ASSERT_TRUE(reply);
    EXPECT_EQ(reply->kind, ShareReplyKind::kRefused);
    EXPECT_EQ(reply->error, EINVAL);
    EXPECT_THAT(reply->text, HasSubstr("a job may have 1000 MiB here"));
    EXPECT_FALSE(receive(client));
}

TEST_F(BrokerTest, NonsenseAndSilenceAreHungUpOn) {
    serve(kMachine, {.first_word_max = std::chrono::seconds(1)});
    const Fd silent = connect_raw(), rude = connect_raw();
    EXPECT_EQ(send_message(rude.get(), "nonsense", 8, -1), 0);
    const auto reply = receive(rude);
    ASSERT_TRUE(reply);
    EXPECT_THAT(reply->text, HasSubstr("8 bytes are no request"));
    EXPECT_FALSE(receive(rude));
    EXPECT_FALSE(receive(silent));
}

TEST_F(BrokerTest, ManyConnectionsOfAUserAreRefused) {
    serve(kMachine + "[[user]]\nid = 0\njobs-max = 1\n", {.connections_beside_jobs = 1});
    const Fd one = connect_raw(), two = connect_raw(), three = connect_raw();
    const auto reply = receive(three);
    ASSERT_TRUE(reply);
    EXPECT_EQ(reply->error, EAGAIN);
}

TEST_F(BrokerTest, ListsWhoHoldsWhat) {
    serve(kMachine);
    const Fd job = connect_raw(), asker = connect_raw();
    send(job, kAsk);
    EXPECT_TRUE(receive(job));
    send(asker, {.kind = ShareRequestKind::kList});
    const auto entry = receive(asker), end = receive(asker);
    ASSERT_TRUE(entry && end);
    EXPECT_EQ(entry->kind, ShareReplyKind::kEntry);
    EXPECT_EQ(entry->process, static_cast<std::uint32_t>(getpid()));
    EXPECT_EQ(entry->cap, 1000 * kMiB);
    EXPECT_EQ(end->kind, ShareReplyKind::kEnd);
    EXPECT_EQ(end->budget, 1000 * kMiB);
    EXPECT_FALSE(receive(asker));
}

TEST_F(BrokerTest, ReadsItsFileAgain) {
    serve(kMachine);
    const Fd client = connect_raw();
    send(client, kAsk);
    EXPECT_TRUE(receive(client));
    write_config("[machine]\nram = \"600M\"\n");
    kill(broker().process(), SIGHUP);
    const auto less = receive(client);
    ASSERT_TRUE(less);
    EXPECT_EQ(less->cap, 600 * kMiB);
}

TEST_F(BrokerTest, ADescriptorThatIsSentAlongIsDropped) {
    serve(kMachine);
    const Fd client = connect_raw();
    Pair pair;
    EXPECT_EQ(send_message(client.get(), &kAsk, sizeof kAsk, pair.server.get()), 0);
    pair.server.reset();
    EXPECT_TRUE(receive(client));
    char byte = 0;
    EXPECT_EQ(receive_message(pair.client.get(), &byte, 1).bytes, 0u) << "nobody has the other end any more";
}

}  // namespace
}  // namespace farswap::daemon
