// The NFS store when servers and connections fail under it: nothing is lost silently, nothing completes
// twice, and no memory is touched that was given back.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <fstream>
#include <map>

#include "base/units.h"
#include "nfs_driver.h"
#include "nfs_server.h"
#include "store/lease.h"

namespace farswap::test {
namespace {

class NfsFaultTest : public testing::TestWithParam<int>, protected Driver {
  protected:
    void SetUp() override {
        if (!nfs_server_available()) GTEST_SKIP() << "needs root and nfs-ganesha";
        server = std::make_unique<NfsServer>();
        server->version = GetParam();
        proxy = std::make_unique<Proxy>(server->nfs_port());
        auto opened = open(server->url_by_port(proxy->port(), "&size=16M"));
        ASSERT_TRUE(opened) << opened.error().message;
        store = std::move(*opened);
        // Both connections are up, so that what is counted and cut below is what the test does.
        ASSERT_EQ(write(*store, 0, pattern(0, 4096)), 4096);
        ASSERT_TRUE(read(*store, 0, 4096) == pattern(0, 4096));
    }
    void TearDown() override {
        if (!store) return;
        proxy->hold_replies(false);
        store->close();
    }
    /// What the server's own disk has.
    std::vector<std::byte> on_server(std::uint64_t offset, std::size_t size) const {
        std::vector<std::byte> bytes(size);
        std::ifstream file(server->path("export/farswap-test"), std::ios::binary);
        file.seekg(static_cast<std::streamoff>(kLeaseSize + offset));
        file.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(size));
        return bytes;
    }
    std::unique_ptr<NfsServer> server;
    std::unique_ptr<Proxy> proxy;
    std::unique_ptr<Store> store;
};

TEST_P(NfsFaultTest, RestartedServerIsWaitedForAndLostWritesAreReported) {
    constexpr std::uint64_t kEach = kMiB / 4, kHalf = 8 * kMiB, kAll = 16 * kMiB;
    std::deque<Transfer> writes;
    const auto submit = [&](std::uint64_t from, std::uint64_t to, std::uint64_t version) {
        writes.clear();
        for (std::uint64_t at = from; at < to; at += kEach)
            writes.emplace_back(WRITE, at, pattern(at, kEach, version));
        for (Transfer& transfer : writes) store->submit(transfer);
    };
    const auto all_written = [&] {
        return run_until([&] { return std::ranges::all_of(writes, &Transfer::completed); }) &&
               std::ranges::all_of(writes, [](const Transfer& transfer) {
                   return transfer.result == static_cast<int>(transfer.length);
               });
    };
    // The first half is acknowledged and uncommitted when the server dies; of the second half the server has
    // a write at least, and none is acknowledged.
    submit(0, kHalf, 1);
    ASSERT_TRUE(all_written());
    proxy->hold_replies(true);
    submit(kHalf, kAll, 1);
    ASSERT_TRUE(run_until([&] { return on_server(kHalf, 4096) == pattern(kHalf, 4096, 1); }));
    EXPECT_TRUE(std::ranges::none_of(writes, &Transfer::completed));
    server->kill();
    proxy->cut();
    proxy->hold_replies(false);
    server->restart();
    ASSERT_TRUE(all_written());
    EXPECT_GT(store->counters().reconnects, 0u);
    EXPECT_GT(store->counters().retries, 0u);

    EXPECT_EQ(flush(*store), -ESTALE);
    EXPECT_EQ(store->counters().lost_writes, 1u);
    submit(0, kAll, 2);
    ASSERT_TRUE(all_written());
    EXPECT_EQ(flush(*store), 0);
    for (std::uint64_t at = 0; at < kAll; at += kMiB)
        EXPECT_TRUE(read(*store, at, kMiB) == pattern(at, kMiB, 2));
}

TEST_P(NfsFaultTest, ConnectionCutAnywhereInAReplyGivesTheRightBytes) {
    ASSERT_EQ(write(*store, 0, pattern(0, 2 * kMiB)), static_cast<int>(2 * kMiB));
    // Inside the record mark, the heads, the first bytes and the middle of the data, and just before the end.
    for (const std::int64_t cut :
         {1, 3, 4, 5, 40, 127, 128, 131, 132, 4000, 65536, 100'000, 500'000, 1'048'703}) {
        std::deque<Transfer> reads;
        for (std::uint64_t i = 0; i < 4; ++i)
            reads.emplace_back(READ, i * 4096, std::vector<std::byte>(kMiB));
        proxy->cut_after(cut);
        for (Transfer& transfer : reads) store->submit(transfer);
        for (Transfer& transfer : reads) {
            ASSERT_EQ(finish(transfer), static_cast<int>(kMiB));
            EXPECT_TRUE(transfer.memory == pattern(transfer.offset, kMiB)) << "cut after " << cut;
        }
    }
    EXPECT_GE(store->counters().reconnects, 14u);
}

/// TCP_NODELAY of each of this process's connections to a port of this machine, by the port at our end.
std::map<std::uint16_t, int> no_delay_of_connections_to(std::uint16_t port) {
    std::map<std::uint16_t, int> found;
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
        const int fd = std::stoi(entry.path().filename());
        sockaddr_in peer{}, own{};
        socklen_t size = sizeof peer, own_size = sizeof own;
        if (::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &size) != 0 || peer.sin_family != AF_INET ||
            ntohs(peer.sin_port) != port)
            continue;
        int value = -1;
        socklen_t length = sizeof value;
        EXPECT_EQ(::getsockname(fd, reinterpret_cast<sockaddr*>(&own), &own_size), 0);
        EXPECT_EQ(::getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, &length), 0);
        found[ntohs(own.sin_port)] = value;
    }
    return found;
}

// A call is a head and data, sent in turn: without it the second of two small writes waits for the server's
// delayed ACK.
TEST_P(NfsFaultTest, ConnectionsSendAtOnceAlsoThoseMadeAnew) {
    using testing::Each, testing::Pair, testing::Not, testing::IsEmpty;
    const auto first = no_delay_of_connections_to(proxy->port());
    EXPECT_THAT(first, Not(IsEmpty()));
    EXPECT_THAT(first, Each(Pair(testing::_, 1)));
    proxy->cut_after(0);
    EXPECT_TRUE(read(*store, 0, 4096) == pattern(0, 4096));
    ASSERT_GT(store->counters().reconnects, 0u);  // perhaps from the same port
    const auto second = no_delay_of_connections_to(proxy->port());
    EXPECT_THAT(second, Not(IsEmpty()));
    EXPECT_THAT(second, Each(Pair(testing::_, 1)));
}

TEST_P(NfsFaultTest, DeadlineGivesTheMemoryBack) {
    proxy->hold_replies(true);
    std::deque<Transfer> reads;
    // More than the window: those that wait have deadlines too.
    for (int i = 0; i < 100; ++i) reads.emplace_back(READ, 0, std::vector<std::byte>(4096), 50ms);
    for (Transfer& transfer : reads) store->submit(transfer);
    for (Transfer& transfer : reads) ASSERT_EQ(finish(transfer), -ETIMEDOUT);
    EXPECT_EQ(flush(*store, 50ms), -ETIMEDOUT);
    for (Transfer& transfer : reads) std::ranges::fill(transfer.memory, std::byte{0xee});
    proxy->hold_replies(false);
    // The late replies arrive before this one's.
    EXPECT_TRUE(read(*store, 0, 4096) == pattern(0, 4096));
    for (const Transfer& transfer : reads) EXPECT_THAT(transfer.memory, testing::Each(std::byte{0xee}));
    EXPECT_EQ(flush(*store), 0);
}

TEST_P(NfsFaultTest, TimedOutWriteCannotOvertakeTheNextOne) {
    proxy->hold_replies(true);
    Transfer late(WRITE, 8192, pattern(8192, 4096, 1), 50ms);
    store->submit(late);
    ASSERT_EQ(finish(late), -ETIMEDOUT);
    const auto sent = store->counters().writes;
    Transfer next(WRITE, 4096, pattern(4096, 8192, 2)), apart(WRITE, 0, pattern(0, 4096, 2));
    store->submit(next);
    loop->run_once(0ns);
    EXPECT_EQ(store->counters().writes, sent) << "sent although its range is in doubt";
    store->submit(apart);
    proxy->hold_replies(false);
    EXPECT_EQ(finish(next), 8192);
    EXPECT_EQ(finish(apart), 4096);
    EXPECT_TRUE(read(*store, 0, 3 * 4096) == pattern(0, 3 * 4096, 2));
}

// NFSv4.1 asks the server before anything else may be written there; NFSv3 has nobody to ask.
TEST_P(NfsFaultTest, TimedOutWriteWhoseConnectionBrokeIsNotInTheWayForEver) {
    proxy->hold_replies(true);
    Transfer late(WRITE, 8192, pattern(8192, 4096, 1), 50ms);
    store->submit(late);
    ASSERT_EQ(finish(late), -ETIMEDOUT);
    proxy->cut();
    proxy->hold_replies(false);
    EXPECT_EQ(write(*store, 4096, pattern(4096, 8192, 2)), 8192);
    EXPECT_TRUE(read(*store, 4096, 8192) == pattern(4096, 8192, 2));
    EXPECT_EQ(store->in_doubt(4096, 8192), GetParam() == 3);
    EXPECT_EQ(flush(*store), 0);
}

TEST_P(NfsFaultTest, WriteGivenUpHalfWayIsNotFinishedFromForeignMemory) {
    proxy->hold_requests(true);
    // More than the sockets between here and the proxy take, so that the deadline finds one of them partly
    // sent.
    std::deque<Transfer> writes;
    for (std::uint64_t i = 0; i < 60; ++i) {
        writes.emplace_back(WRITE, i % 15 * kMiB, pattern(i % 15 * kMiB, kMiB, 1), 200ms);
    }
    for (Transfer& transfer : writes) store->submit(transfer);
    for (Transfer& transfer : writes) {
        EXPECT_EQ(finish(transfer), -ETIMEDOUT);
        std::ranges::fill(transfer.memory, std::byte{0xee});
    }
    proxy->hold_requests(false);
    // On one connection, so that its answer comes after all that had been sent before it.
    ASSERT_EQ(write(*store, 15 * kMiB, pattern(15 * kMiB, 4096)), 4096);
    EXPECT_EQ(store->counters().reconnects, 0u);
    const std::vector<std::byte> foreign(64, std::byte{0xee});
    for (std::uint64_t i = 0; i < 15; ++i) {
        const auto found = read(*store, i * kMiB, kMiB);
        EXPECT_TRUE(std::ranges::search(found, foreign).empty()) << "MiB " << i;
    }
    ASSERT_EQ(write(*store, 0, pattern(0, 15 * kMiB, 3)), static_cast<int>(15 * kMiB));
    EXPECT_TRUE(read(*store, 0, 15 * kMiB) == pattern(0, 15 * kMiB, 3));
}

TEST_P(NfsFaultTest, SeveralConnectionsShareTheCallsAndSurviveTheirLossTogether) {
    store->close();
    store.reset();
    const int before = proxy->accepted();
    auto opened = open(server->url_by_port(proxy->port(), "&size=16M&nconnect=4"), "farswap-test-many");
    ASSERT_TRUE(opened) << opened.error().message;
    store = std::move(*opened);
    std::deque<Transfer> writes, reads;
    for (std::uint64_t i = 0; i < 256; ++i) writes.emplace_back(WRITE, i * 16384, pattern(i * 16384, 16384));
    for (Transfer& transfer : writes) store->submit(transfer);
    proxy->cut();
    for (Transfer& transfer : writes) ASSERT_EQ(finish(transfer), 16384);
    EXPECT_EQ(flush(*store), 0);
    for (std::uint64_t i = 0; i < 256; ++i)
        reads.emplace_back(READ, i * 16384, std::vector<std::byte>(16384));
    for (Transfer& transfer : reads) store->submit(transfer);
    proxy->cut();
    for (Transfer& transfer : reads) {
        ASSERT_EQ(finish(transfer), 16384);
        EXPECT_TRUE(transfer.memory == pattern(transfer.offset, 16384)) << transfer.offset;
    }
    EXPECT_GE(proxy->accepted() - before, 1 + 8) << "control, four for reads, four for writes";
    EXPECT_FALSE(open(server->url("export", "&nconnect=17")));
}

TEST_P(NfsFaultTest, WritesThatWereUnderWayOnALostConnectionAreInDoubtByNfs3) {
    EXPECT_FALSE(store->in_doubt(0, 16 * kMiB));
    proxy->hold_replies(true);
    Transfer under_way(WRITE, kMiB, pattern(kMiB, 8192, 1));
    store->submit(under_way);
    ASSERT_TRUE(run_until([&] { return on_server(kMiB, 8192) == pattern(kMiB, 8192, 1); }));
    EXPECT_FALSE(store->in_doubt(0, 16 * kMiB)) << "its answer is still to come";
    proxy->cut();
    proxy->hold_replies(false);
    EXPECT_EQ(finish(under_way), 8192);
    // With NFSv4.1 the server knows that the two are one.
    EXPECT_EQ(store->in_doubt(kMiB, 8192), GetParam() == 3) << "the first of the two may still be executed";
    EXPECT_FALSE(store->in_doubt(0, kMiB));
    EXPECT_FALSE(store->in_doubt(kMiB + 8192, kMiB));
    // The same bytes may be written there at any time.
    EXPECT_EQ(write(*store, kMiB, pattern(kMiB, 8192, 1)), 8192);
}

TEST_P(NfsFaultTest, AWriteThatTimedOutIsInDoubtUntilItIsAnswered) {
    proxy->hold_replies(true);
    Transfer late(WRITE, kMiB, pattern(kMiB, 4096), 50ms);
    store->submit(late);
    ASSERT_EQ(finish(late), -ETIMEDOUT);
    EXPECT_TRUE(store->in_doubt(kMiB, 4096));
    proxy->hold_replies(false);
    EXPECT_TRUE(run_until([&] { return !store->in_doubt(kMiB, 4096); }));
}

TEST_P(NfsFaultTest, ServerThatStaysAwayEndsRequestsAtTheirDeadline) {
    server->kill();
    Transfer write_one(WRITE, 0, pattern(0, 4096), 300ms),
        read_one(READ, 0, std::vector<std::byte>(4096), 300ms);
    store->submit(write_one);
    store->submit(read_one);
    EXPECT_EQ(finish(write_one), -ETIMEDOUT);
    EXPECT_EQ(finish(read_one), -ETIMEDOUT);
    server->restart();
    EXPECT_EQ(write(*store, 0, pattern(0, 4096, 5)), 4096);
    EXPECT_TRUE(read(*store, 0, 4096) == pattern(0, 4096, 5));
}

TEST_P(NfsFaultTest, RemovedFileFailsRequestsInsteadOfServingAnother) {
    ASSERT_TRUE(std::filesystem::remove(server->path("export/farswap-test")));
    server->kill();  // ganesha keeps a removed file open
    server->restart();
    Transfer transfer(READ, 0, std::vector<std::byte>(4096));
    store->submit(transfer);
    EXPECT_EQ(finish(transfer), -EIO);
    Transfer later(WRITE, 0, pattern(0, 4096));
    store->submit(later);
    EXPECT_EQ(finish(later), -EIO);
    EXPECT_EQ(flush(*store), -EIO);
}

TEST_P(NfsFaultTest, RenewsItsLeaseAndStopsWhenAnotherHasIt) {
    const auto path = server->path("export/farswap-test");
    std::array<std::byte, kLeaseSize> block;
    Lease lease;
    const auto read_lease = [&] {
        std::ifstream(path, std::ios::binary).read(reinterpret_cast<char*>(block.data()), kLeaseSize);
        return decode_lease(block, lease) == LeaseContent::kLease;
    };
    ASSERT_TRUE(read_lease());
    const auto first = lease.beat;
    ASSERT_TRUE(run_until([&] { return read_lease() && lease.beat > first; }));
    ++lease.nonce;
    encode_lease(lease, block);
    std::fstream(path, std::ios::binary | std::ios::in | std::ios::out)
        .write(reinterpret_cast<char*>(block.data()), kLeaseSize);
    ASSERT_TRUE(run_until([&] { return write(*store, 0, pattern(0, 4096)) == -EIO; }));
    store->close();
    EXPECT_TRUE(std::filesystem::exists(path)) << "it is not ours to remove";
    store.reset();
}

TEST_P(NfsFaultTest, FileCutShortIsAnErrorNotZeros) {
    std::filesystem::resize_file(server->path("export/farswap-test"), kLeaseSize + kMiB);
    Transfer transfer(READ, kMiB - 4096, std::vector<std::byte>(8192));
    store->submit(transfer);
    EXPECT_EQ(finish(transfer), -EIO);
}

INSTANTIATE_TEST_SUITE_P(Versions, NfsFaultTest, testing::Values(3, 4), testing::PrintToStringParamName());

}  // namespace
}  // namespace farswap::test
