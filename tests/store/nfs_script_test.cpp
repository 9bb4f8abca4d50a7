// The NFS store against answers that real servers seldom give.
#include <gmock/gmock.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <semaphore>
#include <utility>
#include <vector>

#include "base/units.h"
#include "nfs_driver.h"
#include "scripted_server.h"
#include "store/nfs_file.h"

namespace farswap::test {
namespace {

using nfs::Procedure;
using Call = ScriptedServer::Call;
using Answer = ScriptedServer::Answer;

// RFC 1813 section 2.6: NFS3ERR_IO and so on.
constexpr std::uint32_t kIo = 5, kAccess = 13, kStale = 70, kServerFault = 10006;

class NfsScriptTest : public testing::Test, protected Driver {
  protected:
    /// A store on a file that has been claimed already.
    void start(ScriptedServer::Script script, const nfs::NfsTiming& timing = {.beat = 1h, .trust_max = 1h},
               std::uint64_t capacity = 16 * kMiB) {
        server = std::make_unique<ScriptedServer>(std::move(script));
        nfs::ClaimedFile file;
        file.name = "nfs://scripted/file";
        file.server.host = "127.0.0.1";
        file.server.nfs_port = server->port();
        file.address = server->address();
        file.file.size = 8;
        file.lease.nonce = nonce;
        file.server.connections = connections;
        file.capacity = capacity;
        file.reserved = 16 * kMiB;
        file.read_max = file.write_max = kMiB;
        store = std::make_unique<nfs::NfsFile>(*loop, std::move(file), timing);
    }
    std::uint64_t nonce = 0;  ///< of the store's lease
    std::uint32_t connections = 1;
    // Of the scripts, which may still be asked while the store and the server are given up.
    std::atomic<unsigned> reads = 0, writes = 0, commits = 0;
    std::atomic<std::uint32_t> refused = 0;
    std::atomic<std::uint64_t> written = 0;  ///< bytes
    std::atomic<bool> sober = false;
    std::binary_semaphore timed_out{0};
    std::unique_ptr<ScriptedServer> server;
    std::unique_ptr<nfs::NfsFile> store;
};

/// One READ at a time, so that its data are received before its head has been looked at; heads of two
/// lengths, short reads and refusals in between.
TEST_F(NfsScriptTest, DataThatWereExpectedAndDidNotComeAreReadRightly) {
    start([this](const Call& call) -> std::optional<Answer> {
        const unsigned n = ++reads;
        return Answer{.status = n % 7 == 3 ? 5u : 0u,
                      .less = n % 4 == 1 && call.count > 512 ? 512u : 0u,
                      .counting = true,
                      .attributes = n % 5 < 2};
    });
    int failed = 0;
    for (std::uint64_t i = 0; i < 300; ++i) {
        const std::uint64_t offset = i * 4096 + i % 3 * 8;
        Transfer transfer(READ, offset, std::vector<std::byte>(i % 2 == 0 ? 4096 : 16384));
        store->submit(transfer);
        const int result = finish(transfer);
        if (result == -EIO) {
            ++failed;
            continue;
        }
        ASSERT_EQ(result, static_cast<int>(transfer.memory.size()));
        for (std::size_t at = 0; at < transfer.memory.size(); ++at)
            ASSERT_EQ(transfer.memory[at], static_cast<std::byte>((kLeaseSize + offset + at) / 8))
                << i << " at " << at;
    }
    EXPECT_GT(failed, 20);
    EXPECT_EQ(store->counters().reconnects, 0u);
}

/// As long as the one before, but with more of a head and less of data.
TEST_F(NfsScriptTest, AReplyOfTheExpectedLengthWithALongerHeadIsReadRightly) {
    start([this](const Call& call) -> std::optional<Answer> {
        const bool longer = reads++ == 1;
        return Answer{.less = longer ? 84u : 0, .counting = call.offset > 0, .attributes = longer};
    });
    for (const std::uint64_t offset : {0, 8192}) {
        const auto bytes = read(*store, offset, 4096);
        for (std::size_t at = 0; at < bytes.size(); ++at)
            ASSERT_EQ(bytes[at], static_cast<std::byte>((kLeaseSize + offset + at) / 8)) << at;
    }
    EXPECT_EQ(reads, 3u);
    EXPECT_EQ(store->counters().reconnects, 0u);
}

TEST_F(NfsScriptTest, LossThatNoFlushWasToldOfIsReportedToTheNext) {
    start([this](const Call& call) -> std::optional<Answer> {
        if (call.procedure != Procedure::kCommit) return Answer{.verifier = 1};
        // The server restarted before it got to the first one, whose flush has ended at its deadline by then.
        if (commits++ == 0) timed_out.acquire();
        return Answer{.verifier = 2};
    });
    ASSERT_EQ(write(*store, 0, pattern(0, 4096)), 4096);
    EXPECT_EQ(flush(*store, 20ms), -ETIMEDOUT);
    timed_out.release();
    // Answered in order on one connection: the commit before this write.
    ASSERT_EQ(write(*store, 4096, pattern(4096, 4096)), 4096);
    EXPECT_EQ(flush(*store), -ESTALE);
    EXPECT_EQ(store->counters().lost_writes, 1u);
}

TEST_F(NfsScriptTest, FailureThatNoFlushWasToldOfIsReportedToTheNext) {
    start([this](const Call& call) -> std::optional<Answer> {
        if (call.procedure != Procedure::kCommit || commits++ > 0) return Answer{};
        // As of a disk that fails in the end: what was to be written is dropped, and said once.
        timed_out.acquire();
        return Answer{.status = kIo};
    });
    ASSERT_EQ(write(*store, 0, pattern(0, 4096)), 4096);
    EXPECT_EQ(flush(*store, 20ms), -ETIMEDOUT);
    timed_out.release();
    ASSERT_EQ(write(*store, 4096, pattern(4096, 4096)), 4096);
    EXPECT_EQ(flush(*store), -ESTALE);
    ASSERT_EQ(write(*store, 0, pattern(0, 8192)), 8192);
    EXPECT_EQ(flush(*store), 0);
    EXPECT_EQ(store->counters().lost_writes, 1u);
}

/// A COMMIT is for the whole file: the one of space that is being reserved is told of the pages, too.
TEST_F(NfsScriptTest, FailureThatTheReservationIsToldOfIsReportedToTheNextFlush) {
    start(
        [this](const Call& call) -> std::optional<Answer> {
            return Answer{.status = call.procedure == Procedure::kCommit && commits++ == 0 ? kIo : 0u};
        },
        {.beat = 1h, .trust_max = 1h}, 32 * kMiB);
    ASSERT_EQ(write(*store, 0, pattern(0, 4096)), 4096);
    EXPECT_EQ(reserve(*store, 17 * kMiB), -EIO);
    EXPECT_EQ(flush(*store), -ESTALE);
    ASSERT_EQ(write(*store, 0, pattern(0, 4096)), 4096);
    EXPECT_EQ(flush(*store), 0);
    EXPECT_EQ(reserve(*store, 17 * kMiB), 0);
}

/// The flush comes while the reservation's COMMIT is under way, which nobody but the reservation waits for.
TEST_F(NfsScriptTest, AFlushWaitsForTheReservationsCommit) {
    std::atomic<bool> asked = false;
    start(
        [&](const Call& call) -> std::optional<Answer> {
            if (call.procedure != Procedure::kCommit || commits++ > 0) return Answer{};
            asked = true;
            timed_out.acquire();
            return Answer{.status = kIo};
        },
        {.beat = 1h, .trust_max = 1h}, 32 * kMiB);
    ASSERT_EQ(write(*store, 0, pattern(0, 4096)), 4096);
    ReserveRequest reserve;
    reserve.bytes = 17 * kMiB;
    reserve.complete = [](ReserveRequest&, int result) { EXPECT_EQ(result, -EIO); };
    store->reserve(reserve);
    ASSERT_TRUE(run_until([&] { return asked.load(); }));
    EXPECT_EQ(flush(*store, 20ms), -ETIMEDOUT);
    EXPECT_EQ(store->counters().flushes, 0u) << "two COMMITs at a time";
    timed_out.release();
    EXPECT_EQ(flush(*store), -ESTALE);
}

/// What was taken while a COMMIT was under way is no matter of that one.
TEST_F(NfsScriptTest, AWriteThatIsAnsweredDuringACommitIsWrittenAgainAfterARestart) {
    std::atomic<bool> asked = false;
    connections = 2;  // the write goes over the one that has no COMMIT
    start([&](const Call& call) -> std::optional<Answer> {
        if (call.procedure != Procedure::kCommit) return Answer{.verifier = 1};
        if (commits++ > 0) return Answer{.verifier = 2};
        asked = true;
        timed_out.acquire();
        return Answer{.verifier = 1};
    });
    ASSERT_EQ(write(*store, 0, pattern(0, 4096)), 4096);
    FlushRequest first;
    int answer = 1;
    first.owner = &answer;
    first.complete = [](FlushRequest& done, int result) { *static_cast<int*>(done.owner) = result; };
    store->flush(first);
    ASSERT_TRUE(run_until([&] { return asked.load(); }));
    ASSERT_EQ(write(*store, 4096, pattern(4096, 4096)), 4096);
    ASSERT_EQ(answer, 1) << "the write was to be answered first";
    timed_out.release();
    ASSERT_TRUE(run_until([&] { return answer != 1; }));
    EXPECT_EQ(answer, 0);
    EXPECT_EQ(flush(*store), -ESTALE);
}

TEST_F(NfsScriptTest, AFailureThatWasToldIsNotToldAgain) {
    start([this](const Call& call) -> std::optional<Answer> {
        return Answer{.status = call.procedure == Procedure::kCommit && commits++ == 0 ? kIo : 0u};
    });
    ASSERT_EQ(write(*store, 0, pattern(0, 4096)), 4096);
    EXPECT_EQ(flush(*store), -EIO);
    ASSERT_EQ(write(*store, 0, pattern(0, 4096)), 4096);
    EXPECT_EQ(flush(*store), 0);
}

/// The rest goes out behind what was taken, and a restart between the two is told at the flush.
TEST_F(NfsScriptTest, AWriteThatIsTakenInPartIsContinuedBehindIt) {
    std::mutex mutex;
    std::vector<std::pair<std::uint64_t, std::uint32_t>> asked;
    start([&](const Call& call) -> std::optional<Answer> {
        if (call.procedure == Procedure::kCommit) return Answer{.verifier = 2};
        if (call.procedure != Procedure::kWrite || call.offset < kLeaseSize) return Answer{};
        const std::lock_guard guard(mutex);
        asked.emplace_back(call.offset - kLeaseSize, call.count);
        const auto verifier = static_cast<std::uint8_t>(asked.size() > 1 ? 2 : 1);
        return Answer{.verifier = verifier, .less = call.count > 4096 ? call.count - 4096 : 0};
    });
    EXPECT_EQ(write(*store, 8192, pattern(8192, 3 * 4096)), 3 * 4096);
    EXPECT_EQ(flush(*store), -ESTALE) << "its first part may be lost";
    store.reset();
    server.reset();
    const decltype(asked) wanted{{8192, 12288}, {12288, 8192}, {16384, 4096}};
    EXPECT_EQ(asked, wanted);
}

TEST_F(NfsScriptTest, AWriteOfNothingEndsWithAnError) {
    start([](const Call& call) -> std::optional<Answer> { return Answer{.less = call.count}; });
    EXPECT_EQ(write(*store, 0, pattern(0, 4096)), -EIO);
}

TEST_F(NfsScriptTest, WhatTheServerHasOnDiskAlreadyNeedsNoCommit) {
    start([this](const Call& call) -> std::optional<Answer> {
        if (call.procedure == Procedure::kCommit) ++commits;
        return Answer{.verifier = 1, .stable = true};
    });
    ASSERT_EQ(write(*store, 0, pattern(0, 4096)), 4096);
    EXPECT_EQ(flush(*store), 0);
    EXPECT_EQ(commits, 0u);
}

TEST_F(NfsScriptTest, SpaceIsReservedThoughTheServerRestartsAllTheTime) {
    start(
        [this](const Call& call) -> std::optional<Answer> {
            // It restarts with every tenth MiB, so that no step longer than that is ever kept.
            if (call.procedure == Procedure::kWrite) written += call.count;
            return Answer{.verifier = static_cast<std::uint8_t>(1 + written / (10 * kMiB))};
        },
        {.beat = 1h, .trust_max = 1h}, 512 * kMiB);
    EXPECT_EQ(reserve(*store, 300 * kMiB), 0);
    EXPECT_EQ(store->reserved(), 300 * kMiB);
}

/// As after a fail-over: the server does not know the file for a while.
TEST_F(NfsScriptTest, AFileThatComesBackIsNoLostFile) {
    for (const std::uint32_t status : {kStale, kAccess, kServerFault}) {
        reads = writes = commits = 0;
        nonce = 7;
        start(
            [this, status](const Call& call) -> std::optional<Answer> {
                auto& count = call.procedure == Procedure::kRead    ? reads
                              : call.procedure == Procedure::kWrite ? writes
                                                                    : commits;
                return Answer{.status = count++ < 3 ? status : 0u, .lease_nonce = 7};
            },
            {.beat = 10ms, .trust_max = 1h});
        EXPECT_EQ(write(*store, 0, pattern(0, 4096)), 4096);
        EXPECT_EQ(read(*store, 0, 4096).size(), 4096u);
        EXPECT_EQ(flush(*store), -ESTALE) << "the COMMIT that was refused may have been one that failed";
        ASSERT_EQ(write(*store, 0, pattern(0, 4096)), 4096);
        EXPECT_EQ(flush(*store), 0);
        EXPECT_EQ(store->counters().reconnects, 0u);
        store.reset();
    }
}

TEST_F(NfsScriptTest, WhatWaitedForALostFileIsNotSent) {
    start(
        [](const Call& call) -> std::optional<Answer> {
            if (call.procedure != Procedure::kWrite) return Answer{};
            return Answer{.status = kStale};
        },
        {.beat = 1h, .trust_max = 1h, .limits = {.refusal_max = 100ms}});
    std::deque<Transfer> transfers;
    for (std::uint64_t i = 0; i < 2 * nfs::kWindow; ++i)
        transfers.emplace_back(WRITE, i * 4096, pattern(i * 4096, 4096));
    for (Transfer& transfer : transfers) store->submit(transfer);
    for (Transfer& transfer : transfers) ASSERT_EQ(finish(transfer), -EIO);
    EXPECT_EQ(flush(*store), -EIO);
    EXPECT_EQ(reserve(*store, 16 * kMiB), -EIO);
    EXPECT_LE(store->counters().writes, nfs::kWindow) << "sent after the file was known to be lost";
}

// With a lease that is never trusted: as after a long outage, or when this process was stopped for long.
TEST_F(NfsScriptTest, AfterAnOutageNothingIsWrittenToAFileThatAnotherHas) {
    nonce = 7;
    start(
        [this](const Call& call) -> std::optional<Answer> {
            if (call.procedure != Procedure::kWrite) return Answer{.lease_nonce = writes == 0 ? 7u : 8u};
            ++writes;
            return std::nullopt;
        },
        {.trust_max = 0ns});
    Transfer transfer(WRITE, 0, pattern(0, 4096));
    store->submit(transfer);
    ASSERT_TRUE(run_until([&] { return writes == 1u; }));
    server->disconnect();
    EXPECT_EQ(finish(transfer), -EIO);
    EXPECT_EQ(store->counters().retries, 1u);
    EXPECT_EQ(writes, 1u) << "sent again before the lease was looked at";
}

TEST_F(NfsScriptTest, NothingMoreIsWrittenOnALivingConnectionToAFileThatAnotherHas) {
    nonce = 7;
    start(
        [this](const Call& call) -> std::optional<Answer> {
            if (call.procedure != Procedure::kWrite) return Answer{.lease_nonce = writes == 0 ? 7u : 8u};
            ++writes;
            return Answer{};
        },
        {.trust_max = 0ns});
    EXPECT_EQ(write(*store, 0, pattern(0, 4096)), 4096);
    EXPECT_EQ(write(*store, 4096, pattern(4096, 4096)), -EIO);
    EXPECT_EQ(writes, 1u);
}

TEST_F(NfsScriptTest, AfterAnOutageWritesGoOnWhenTheLeaseIsStillOurs) {
    nonce = 7;
    start(
        [this](const Call& call) -> std::optional<Answer> {
            if (call.procedure == Procedure::kWrite && writes++ == 0) return std::nullopt;
            return Answer{.lease_nonce = 7};
        },
        {.trust_max = 0ns});
    Transfer transfer(WRITE, 0, pattern(0, 4096));
    store->submit(transfer);
    ASSERT_TRUE(run_until([&] { return writes == 1u; }));
    server->disconnect();
    EXPECT_EQ(finish(transfer), 4096);
}

// Servers lose calls without a word, on connections that live.
TEST_F(NfsScriptTest, AWriteThatTheServerHasLostIsSentAgain) {
    start(
        [this](const Call& call) -> std::optional<Answer> {
            if (call.procedure == Procedure::kWrite && writes++ == 0) return std::nullopt;
            return Answer{};
        },
        {.beat = 1h, .trust_max = 1h, .limits = {.silence_max = 100ms}});
    EXPECT_EQ(write(*store, 0, pattern(0, 4096)), 4096);
    EXPECT_EQ(store->counters().retries, 1u);
    EXPECT_EQ(store->counters().reconnects, 1u);
    EXPECT_TRUE(store->in_doubt(0, 4096)) << "the lost one may turn up again";
}

TEST_F(NfsScriptTest, ACommitThatTheServerHasLostIsSentAgain) {
    start(
        [this](const Call& call) -> std::optional<Answer> {
            if (call.procedure == Procedure::kCommit && commits++ == 0) return std::nullopt;
            return Answer{};
        },
        {.beat = 1h, .trust_max = 1h, .limits = {.silence_max = 100ms}});
    ASSERT_EQ(write(*store, 0, pattern(0, 4096)), 4096);
    EXPECT_EQ(flush(*store), 0);
    EXPECT_EQ(commits, 2u);
}

TEST_F(NfsScriptTest, TheLeaseIsRenewedThoughTheServerHasLostARenewal) {
    nonce = 7;
    start(
        [this](const Call& call) -> std::optional<Answer> {
            // A READ and a WRITE for each; the first of both is lost.
            if (call.procedure == Procedure::kRead && reads++ == 0) return std::nullopt;
            if (call.procedure == Procedure::kWrite && writes++ == 0) return std::nullopt;
            return Answer{.lease_nonce = 7};
        },
        {.beat = 10ms, .trust_max = 1h, .limits = {.silence_max = 100ms}});
    EXPECT_TRUE(run_until([&] { return writes > 2u; }));
}

TEST_F(NfsScriptTest, WritesGoOnThoughTheServerHasLostTheLookAtTheLease) {
    nonce = 7;
    start(
        [this](const Call& call) -> std::optional<Answer> {
            if (call.procedure == Procedure::kRead && reads++ == 0) return std::nullopt;
            return Answer{.lease_nonce = 7};
        },
        {.trust_max = 0ns, .limits = {.silence_max = 100ms}});
    EXPECT_EQ(write(*store, 0, pattern(0, 4096)), 4096);
}

/// One that timed out, and whose answer never comes, holds its own place only, and not for ever.
TEST_F(NfsScriptTest, AWriteThatTheServerHasLostLetsOthersPass) {
    std::atomic<bool> lost = true;
    start([&](const Call& call) -> std::optional<Answer> {
        if (call.offset == kLeaseSize && lost) return std::nullopt;
        return Answer{};
    });
    Transfer late(WRITE, 0, pattern(0, 4096), 20ms);
    store->submit(late);
    EXPECT_EQ(finish(late), -ETIMEDOUT);
    Transfer same(WRITE, 0, pattern(0, 4096));
    store->submit(same);
    EXPECT_EQ(write(*store, 4096, pattern(4096, 4096)), 4096);
    EXPECT_EQ(write(*store, 8192, pattern(8192, 4096)), 4096);
    EXPECT_FALSE(same.completed) << "overtook the first";
    lost = false;
    server->disconnect();
    EXPECT_EQ(finish(same), 4096);
}

TEST_F(NfsScriptTest, ServerThatTalksNonsenseIsNotAskedOverAndOverAtOnce) {
    start([this](const Call&) -> std::optional<Answer> { return Answer{.malformed = !sober}; });
    Transfer transfer(READ, 0, std::vector<std::byte>(4096), 500ms);
    store->submit(transfer);
    EXPECT_EQ(finish(transfer), -ETIMEDOUT);
    // One attempt a second: the deadline's end, however late, allows for a few.
    EXPECT_LT(store->counters().reconnects, 10u);
    sober = true;  // for the end of the store
}

TEST_F(NfsScriptTest, TryLaterIsAskedAgainUnderANewNumber) {
    start([this](const Call& call) -> std::optional<Answer> {
        std::uint32_t none = 0;
        // As a server does that remembers its replies: the same number gets the same answer.
        if (refused.compare_exchange_strong(none, call.xid) || none == call.xid)
            return Answer{.status = nfs::kStatusJukebox};
        return Answer{};
    });
    EXPECT_EQ(write(*store, 0, pattern(0, 4096)), 4096);
    EXPECT_EQ(store->counters().retries, 1u);
}

}  // namespace
}  // namespace farswap::test
