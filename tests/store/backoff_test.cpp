// How long a store waits between two attempts to reach its server, by a clock that only the test moves.
#include "store/backoff.h"

#include <arpa/inet.h>
#include <endian.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cstring>
#include <memory>
#include <optional>
#include <span>

#include "store/nfs_connection.h"

namespace {
/// Beyond the epoch, where a timer that is armed for "now" has a past.
std::chrono::nanoseconds now_since_epoch = std::chrono::hours(1);
}  // namespace

// The clock of this whole program: this definition takes the place of libstdc++'s when it is linked.
namespace std::chrono {
inline namespace _V2 {

steady_clock::time_point steady_clock::now() noexcept {
    return time_point(now_since_epoch);
}

}  // namespace _V2
}  // namespace std::chrono

namespace farswap::test {
namespace {

using namespace std::chrono_literals;
using std::chrono::milliseconds;

constexpr std::array kWaits{0ms, 20ms, 40ms, 80ms, 160ms, 320ms, 640ms, 1000ms, 1000ms, 1000ms};

TEST(BackoffTest, DoublesUpToItsLimitAndBeginsAnewAfterAnAnswer) {
    Backoff backoff;
    io::Clock::time_point now;
    for (int round = 0; round < 2; ++round) {
        EXPECT_FALSE(backoff.has_begun());
        for (const milliseconds wait : kWaits) {
            const auto next = backoff.next(now);
            EXPECT_EQ(next - now, wait);
            EXPECT_TRUE(backoff.has_begun());
            now = next;
        }
        backoff.reset();
    }
    backoff.lengthen();
    EXPECT_EQ(backoff.next(now) - now, 1s);
    EXPECT_EQ(backoff.next(now) - now, 1s);
}

/// A connection to a server that takes connections and closes them.
class ReconnectTest : public testing::Test, protected nfs::Connection::Watcher {
  protected:
    void SetUp() override {
        auto& own = reinterpret_cast<sockaddr_in&>(address.storage);
        own.sin_family = AF_INET;
        own.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        address.size = sizeof own;
        auto* const any = reinterpret_cast<sockaddr*>(&address.storage);
        ASSERT_EQ(::bind(listener.get(), any, address.size), 0);
        ASSERT_EQ(::listen(listener.get(), 8), 0);
        ASSERT_EQ(::getsockname(listener.get(), any, &address.size), 0);
        nfs::Connection::Watcher& watcher = *this;
        connection.emplace(*loop, address, protocol, "nfs://here/export", 4096u, watcher);
    }
    void slot_freed() noexcept override {}
    void write_in_doubt(std::uint64_t, std::uint32_t) noexcept override {}
    void told_to_wait() noexcept override {}
    bool may_send() noexcept override { return true; }

    /// False: not in some ten seconds. The clock stands still meanwhile, so that no timer fires that was not
    /// due.
    template <typename Condition>
    bool run_until(Condition condition) {
        for (int i = 0; i < 1000 && !condition(); ++i) loop->run_once(10ms);
        return condition();
    }
    bool knocked() const {
        pollfd waiting{listener.get(), POLLIN, 0};
        return ::poll(&waiting, 1, 0) == 1;
    }
    /// The next attempt comes `wait` after now, and not before; it succeeds.
    void expect_attempt_after(milliseconds wait) {
        if (wait > 0ms) {
            now_since_epoch += wait - 1ms;
            for (int i = 0; i < 3; ++i) loop->run_once(0ms);
            ASSERT_FALSE(knocked()) << "before " << wait.count() << " ms";
            now_since_epoch += 1ms;
        }
        ASSERT_TRUE(run_until([&] { return knocked(); })) << "not after " << wait.count() << " ms";
        server.reset(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
        ASSERT_TRUE(run_until([&] { return connection->is_up(); }));
    }
    void disconnect() {
        server.reset();
        ASSERT_TRUE(run_until([&] { return !connection->is_up(); }));
    }
    void expect_attempts(std::span<const milliseconds> waits) {
        for (const milliseconds wait : waits) {
            disconnect();
            expect_attempt_after(wait);
            if (HasFatalFailure()) return;
        }
    }
    /// One call, answered with success (RFC 1813 section 3.3.21) or with what is no reply.
    void call(bool answer_well) {
        bool completed = false;
        nfs::Call& commit = *connection->take(false);
        commit.procedure = nfs::Procedure::kCommit;
        commit.owner = &completed;
        commit.complete = [](nfs::Call& done) { *static_cast<bool*>(done.owner) = true; };
        connection->submit(commit);
        std::array<std::uint32_t, 2> mark_and_xid{};
        ASSERT_EQ(::recv(server.get(), mark_and_xid.data(), sizeof mark_and_xid, MSG_WAITALL),
                  static_cast<ssize_t>(sizeof mark_and_xid));
        std::array<std::uint32_t, 12> reply{htobe32(44 | nfs::kLastFragment), mark_and_xid[1], htobe32(1)};
        if (!answer_well) reply.fill(0x7f7f7f7f);
        ASSERT_EQ(::send(server.get(), reply.data(), sizeof reply, MSG_NOSIGNAL),
                  static_cast<ssize_t>(sizeof reply));
        ASSERT_TRUE(run_until([&] { return answer_well ? completed : !connection->is_up(); }));
        if (answer_well)
            connection->release(commit);
        else
            connection->abandon(commit);
    }

    std::unique_ptr<io::Loop> loop = std::move(io::Loop::create().value());
    Fd listener{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)}, server;
    nfs::Address address;
    nfs::Protocol3 protocol{{}, {}};
    std::optional<nfs::Connection> connection;
};

TEST_F(ReconnectTest, AServerThatClosesIsAskedMoreAndMoreSeldom) {
    expect_attempt_after(0ms);
    expect_attempts(kWaits);
}

TEST_F(ReconnectTest, OnlyAnAnswerMakesItBeAskedAtOnceAgain) {
    expect_attempt_after(0ms);
    expect_attempts(std::span(kWaits).first(6));
    call(true);
    expect_attempts(kWaits);
}

TEST_F(ReconnectTest, AServerThatAnswersNonsenseIsNotAskedAtOnce) {
    expect_attempt_after(0ms);
    call(false);
    expect_attempt_after(1000ms);
}

}  // namespace
}  // namespace farswap::test
