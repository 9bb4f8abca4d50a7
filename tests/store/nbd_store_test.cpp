// The NBD store against nbdkit: transfers, refusals, deadlines, servers that restart with and without their
// data.
#include "store/nbd_store.h"
#include "base/units.h"

#include <gmock/gmock.h>

#include <deque>
#include <filesystem>
#include <fstream>

#include "nbd_server.h"
#include "nfs_driver.h"
#include "store/nbd_late_writes.h"

namespace farswap::test {
namespace {

class NbdStoreTest : public testing::Test, protected Driver {
  protected:
    void SetUp() override {
        if (!nbd_server_available()) GTEST_SKIP() << "needs nbdkit";
    }
    void TearDown() override {
        if (store) store->close();
    }
    Result<std::unique_ptr<Store>> try_open(const std::string& url, const LeaseTiming& timing = {},
                                            std::chrono::milliseconds silence_max = kSilenceMax) {
        const auto parsed = parse_url(url);
        if (!parsed) return std::unexpected(parsed.error());
        return open_nbd_store(*parsed, {}, *loop, timing, silence_max);
    }
    void serve(std::vector<std::string> arguments) {
        server = std::make_unique<NbdServer>(std::move(arguments));
        auto opened = try_open(server->url());
        ASSERT_TRUE(opened) << opened.error().message;
        store = std::move(*opened);
    }
    void make_disk() {
        char path[] = "/var/tmp/farswap-nbd-disk-XXXXXX";
        const int fd = ::mkstemp(path);
        ASSERT_GE(fd, 0);
        ASSERT_EQ(::ftruncate(fd, 64 << 20), 0);
        ::close(fd);
        disk = path;
    }
    /// An export in a file, which a server that is killed leaves as it was.
    void serve_file(std::vector<std::string> filters = {}, std::vector<std::string> parameters = {}) {
        make_disk();
        filters.insert(filters.end(), {"file", disk});
        filters.insert(filters.end(), parameters.begin(), parameters.end());
        serve(std::move(filters));
    }
    ~NbdStoreTest() override {
        std::error_code error;
        if (!disk.empty()) std::filesystem::remove(disk, error);
    }

    std::string disk;
    std::unique_ptr<NbdServer> server;
    std::unique_ptr<Store> store;
};

TEST_F(NbdStoreTest, SaysWhatItIs) {
    serve({"memory", "64M"});
    EXPECT_EQ(store->capacity(), 64 * kMiB - kLeaseSize);
    EXPECT_EQ(store->reserved(), store->capacity());
    EXPECT_EQ(store->transfer_max(), kMiB);
    EXPECT_LE(store->alignment(), kPageSize);
    EXPECT_EQ(reserve(*store, store->capacity()), 0);
    EXPECT_EQ(reserve(*store, store->capacity() + 1), -ENOSPC);
}

TEST_F(NbdStoreTest, ReadsBackWhatWasWritten) {
    serve({"memory", "64M"});
    std::uint64_t offset = 0;
    for (const std::size_t size : {4096u, 8192u, 65536u, 1u << 20, (1u << 20) + 4096, 3u << 20}) {
        const auto bytes = pattern(offset, size);
        ASSERT_EQ(write(*store, offset, bytes), static_cast<int>(size));
        EXPECT_TRUE(read(*store, offset, size) == bytes) << size << " bytes at " << offset;
        offset += size + kPageSize;
    }
    EXPECT_EQ(flush(*store), 0);
    EXPECT_EQ(flush(*store), 0);
    EXPECT_EQ(store->counters().flushes, 1u) << "there was nothing to flush";
}

TEST_F(NbdStoreTest, KeepsManyTransfersApart) {
    serve({"memory", "64M"});
    constexpr std::size_t kSlots = 400, kSize = 16384;
    std::deque<Transfer> writes, reads;
    for (std::size_t i = 0; i < kSlots; ++i) writes.emplace_back(WRITE, i * kSize, pattern(i * kSize, kSize));
    for (Transfer& transfer : writes) store->submit(transfer);
    ASSERT_TRUE(run_until([&] { return std::ranges::all_of(writes, &Transfer::completed); }));
    for (std::size_t i = 0; i < kSlots; ++i)
        reads.emplace_back(READ, i * kSize, std::vector<std::byte>(kSize));
    for (Transfer& transfer : reads) store->submit(transfer);
    ASSERT_TRUE(run_until([&] { return std::ranges::all_of(reads, &Transfer::completed); }));
    for (const Transfer& transfer : reads) EXPECT_TRUE(transfer.memory == pattern(transfer.offset, kSize));
}

TEST_F(NbdStoreTest, RefusesBadRequestsFromTheLoopOnly) {
    serve({"memory", "64M"});
    const std::vector<std::byte> page(kPageSize);
    Transfer unpinned(KERNEL_WRITE, 0, page), empty(READ, 0, {}), beyond(READ, store->capacity(), page),
        wrapped(READ, ~std::uint64_t{0} - 4095, page);
    for (Transfer* transfer : {&unpinned, &empty, &beyond, &wrapped}) {
        store->submit(*transfer);
        EXPECT_FALSE(transfer->completed);
        EXPECT_EQ(finish(*transfer), -EINVAL);
    }
}

TEST_F(NbdStoreTest, RefusesWhatCannotServe) {
    const NbdServer read_only({"--readonly", "memory", "64M"}), small({"memory", "64K"}),
        coarse({"--filter=blocksize-policy", "memory", "64M", "blocksize-minimum=64K",
                "blocksize-preferred=64K"});
    EXPECT_EQ(try_open(read_only.url()).error().code, EROFS);
    EXPECT_EQ(try_open(small.url()).error().code, ENOSPC);
    EXPECT_EQ(try_open(coarse.url()).error().code, EPROTO);
    EXPECT_EQ(try_open("nbd+unix:///?socket=/nowhere/at/all").error().code, ENOENT);
    EXPECT_THAT(try_open("nbds://host/export").error().message, testing::HasSubstr("TLS"));
    EXPECT_EQ(try_open("nbd+unix:///export").error().code, EINVAL);
}

TEST_F(NbdStoreTest, KeepsItsHandsOffWhatIsNotOurs) {
    const NbdServer writable({"--filter=cow", "pattern", "64M"});
    EXPECT_EQ(try_open(writable.url()).error().code, EEXIST);
    serve({"memory", "64M"});
    const auto second = try_open(server->url());
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code, EBUSY);
    store->close();
    store.reset();
    auto next = try_open(server->url());
    ASSERT_TRUE(next) << next.error().message;
    store = std::move(*next);
}

TEST_F(NbdStoreTest, GivesMemoryBackAtTheDeadline) {
    serve({"--filter=delay", "memory", "64M", "rdelay=0", "wdelay=2"});
    Transfer late(WRITE, 0, pattern(0, kPageSize), 100ms);
    store->submit(late);
    EXPECT_EQ(finish(late), -ETIMEDOUT);
    // The same bytes may go there at once, others not before the old ones cannot come any more.
    Transfer same(WRITE, 0, pattern(0, kPageSize)), other(WRITE, 0, pattern(0, kPageSize, 1), 5000ms);
    store->submit(same);
    EXPECT_EQ(finish(same), static_cast<int>(kPageSize));
    store->submit(other);
    EXPECT_EQ(finish(other), -ETIMEDOUT);
    EXPECT_TRUE(read(*store, 0, kPageSize) == pattern(0, kPageSize));
}

TEST_F(NbdStoreTest, ReportsWritesOfALostConnectionAsLost) {
    serve_file();
    ASSERT_EQ(write(*store, 0, pattern(0, kMiB)), static_cast<int>(kMiB));
    ASSERT_EQ(flush(*store), 0);
    ASSERT_EQ(write(*store, kMiB, pattern(kMiB, kMiB)), static_cast<int>(kMiB));
    server->restart();
    // Is served over the new connection, and flushed with a loss before it.
    EXPECT_TRUE(read(*store, 0, kMiB) == pattern(0, kMiB));
    ASSERT_EQ(write(*store, 2 * kMiB, pattern(2 * kMiB, kMiB)), static_cast<int>(kMiB));
    EXPECT_EQ(flush(*store), -ESTALE);
    ASSERT_EQ(write(*store, kMiB, pattern(kMiB, kMiB)), static_cast<int>(kMiB));
    EXPECT_EQ(flush(*store), 0);
    EXPECT_EQ(store->counters().lost_writes, 1u);
    EXPECT_GE(store->counters().reconnects, 1u);
}

/// The server's disk fails in the end, drops what it was to write, and says so once: to a flush that has
/// ended at its deadline.
TEST_F(NbdStoreTest, FailureThatNoFlushWasToldOfIsReportedToTheNext) {
    make_disk();
    const std::string failing = disk + ".failing", go_on = disk + ".go-on";
    serve({"eval", "get_size=echo 64M",
           "pread=dd if=" + disk + " skip=$4 count=$3 iflag=skip_bytes,count_bytes status=none",
           "pwrite=dd of=" + disk + " seek=$4 oflag=seek_bytes conv=notrunc status=none",
           "flush=[ -e " + failing + " ] || exit 0; until [ -e " + go_on + " ]; do sleep 0.02; done; rm " +
               failing + " " + go_on + "; echo EIO >&2; exit 1"});
    ASSERT_EQ(write(*store, 0, pattern(0, kPageSize)), static_cast<int>(kPageSize));
    std::ofstream(failing).put(0);
    EXPECT_EQ(flush(*store, 100ms), -ETIMEDOUT);
    std::ofstream(go_on).put(0);
    ASSERT_EQ(write(*store, kPageSize, pattern(kPageSize, kPageSize)), static_cast<int>(kPageSize));
    EXPECT_EQ(flush(*store), -ESTALE);
    ASSERT_EQ(write(*store, 0, pattern(0, 2 * kPageSize)), static_cast<int>(2 * kPageSize));
    EXPECT_EQ(flush(*store), 0);
    EXPECT_EQ(store->counters().lost_writes, 1u);
    EXPECT_EQ(store->counters().reconnects, 0u);
}

/// One that is alive, and answers everything but one call.
class NbdSilenceTest : public NbdStoreTest {
  protected:
    /// The first of these calls behind drop_one() is answered when the test is over.
    void serve_dropping(const std::string& call) {
        make_disk();
        const auto drop = [&](const std::string& name) {
            return name != call ? ""
                                : "if rm " + disk + ".drop 2>/dev/null; then until [ -e " + disk +
                                      ".over ]; do sleep 0.02; done; fi; ";
        };
        server = std::make_unique<NbdServer>(std::vector<std::string>{
            "eval", "thread_model=echo parallel", "get_size=echo 64M",
            "pread=" + drop("pread") + "dd if=" + disk +
                " skip=$4 count=$3 iflag=skip_bytes,count_bytes status=none",
            "pwrite=dd of=" + disk + " seek=$4 oflag=seek_bytes conv=notrunc status=none",
            "flush=" + drop("flush") + "exit 0"});
        auto opened = try_open(server->url(), {.beat = 50ms}, 500ms);
        ASSERT_TRUE(opened) << opened.error().message;
        store = std::move(*opened);
    }
    void drop_one() { std::ofstream(disk + ".drop").put(0); }
    bool dropped() const { return !std::filesystem::exists(disk + ".drop"); }
    void TearDown() override {
        std::ofstream(disk + ".over").put(0);
        NbdStoreTest::TearDown();
        server.reset();
        std::filesystem::remove(disk + ".over");
    }
};

TEST_F(NbdSilenceTest, FlushThatIsNeverAnsweredCostsTheConnection) {
    serve_dropping("flush");
    ASSERT_EQ(write(*store, 0, pattern(0, kPageSize)), static_cast<int>(kPageSize));
    drop_one();
    EXPECT_EQ(flush(*store), -ESTALE);
    ASSERT_EQ(write(*store, 0, pattern(0, kPageSize)), static_cast<int>(kPageSize));
    EXPECT_EQ(flush(*store), 0);
    EXPECT_GE(store->counters().reconnects, 1u);
}

TEST_F(NbdSilenceTest, LookAtTheLeaseThatIsNeverAnsweredCostsTheConnection) {
    serve_dropping("pread");
    drop_one();
    ASSERT_TRUE(run_until([&] { return dropped() && store->counters().reconnects > 0; }));
    EXPECT_EQ(write(*store, 0, pattern(0, kPageSize)), static_cast<int>(kPageSize));
    EXPECT_TRUE(read(*store, 0, kPageSize) == pattern(0, kPageSize));
    EXPECT_EQ(flush(*store), 0);
}

TEST_F(NbdStoreTest, SendsAgainWhatWasUnderWay) {
    serve_file({"--filter=delay"}, {"rdelay=0", "wdelay=500ms"});
    std::deque<Transfer> transfers;
    for (std::uint64_t i = 0; i < 20; ++i) transfers.emplace_back(WRITE, i * kMiB, pattern(i * kMiB, kMiB));
    for (Transfer& transfer : transfers) store->submit(transfer);
    loop->run_once(50ms);
    server->restart();
    ASSERT_TRUE(run_until([&] { return std::ranges::all_of(transfers, &Transfer::completed); }));
    for (const Transfer& transfer : transfers) EXPECT_EQ(transfer.result, static_cast<int>(kMiB));
    (void)flush(*store);
    for (const Transfer& transfer : transfers)
        EXPECT_TRUE(read(*store, transfer.offset, kMiB) == pattern(transfer.offset, kMiB));
    EXPECT_GT(store->counters().retries, 0u);
}

TEST_F(NbdStoreTest, AServerThatComesBackEmptyIsNoStoreAnyMore) {
    serve({"memory", "64M"});
    ASSERT_EQ(write(*store, 0, pattern(0, kMiB)), static_cast<int>(kMiB));
    ASSERT_EQ(flush(*store), 0);
    server->restart();
    Transfer transfer(READ, 0, std::vector<std::byte>(kMiB));
    store->submit(transfer);
    EXPECT_EQ(finish(transfer), -EIO);
    EXPECT_EQ(flush(*store), -EIO);
}

TEST_F(NbdStoreTest, PassesErrorsOn) {
    serve({"--filter=error", "memory", "64M", "error-pwrite=ENOSPC", "error-pwrite-rate=100%",
           "error-pwrite-file=/var/tmp/farswap-nbd-error-trigger"});
    ASSERT_EQ(write(*store, 0, pattern(0, kPageSize)), static_cast<int>(kPageSize));
    std::ofstream("/var/tmp/farswap-nbd-error-trigger").put(0);
    EXPECT_EQ(write(*store, 0, pattern(0, kPageSize)), -ENOSPC);
    std::filesystem::remove("/var/tmp/farswap-nbd-error-trigger");
    EXPECT_EQ(write(*store, 0, pattern(0, kPageSize)), static_cast<int>(kPageSize));
}

TEST_F(NbdStoreTest, OpensOnAServerThatFailsNowAndThen) {
    server = std::make_unique<NbdServer>(std::vector<std::string>{
        "--filter=error", "memory", "64M", "error-pread-rate=5%", "error-pwrite-rate=5%"});
    for (int i = 0; i < 5; i++) {  // 20 reads each
        auto opened = try_open(server->url());
        ASSERT_TRUE(opened) << opened.error().message;
        (*opened)->close();
    }
}

TEST_F(NbdStoreTest, WaitsForAServerThatIsAwayUntilTheDeadline) {
    serve_file();
    server->kill();
    Transfer transfer(READ, 0, std::vector<std::byte>(kPageSize), 300ms);
    store->submit(transfer);
    EXPECT_EQ(finish(transfer), -ETIMEDOUT);
    server->start();
    EXPECT_TRUE(read(*store, 0, kPageSize) == std::vector<std::byte>(kPageSize));
}

TEST(NbdLateWrites, BlockOtherBytesOnly) {
    nbd::LateWrites late(10s);
    const auto now = nbd::LateWrites::Clock::now();
    const auto old = pattern(0, 8192), other = pattern(0, 8192, 1);
    EXPECT_EQ(late.blocked_until(0, other, now), now);
    late.note(0, old, now);
    EXPECT_EQ(late.blocked_until(0, old, now), now);
    EXPECT_EQ(late.blocked_until(0, other, now), now + 10s);
    EXPECT_EQ(late.blocked_until(4096, std::span(old).first(4096), now), now + 10s) << "not the same place";
    EXPECT_EQ(late.blocked_until(8192, other, now), now);
    EXPECT_TRUE(late.may_hit(4096, 4096, now));
    EXPECT_FALSE(late.may_hit(8192, 4096, now));
    EXPECT_FALSE(late.may_hit(0, 8192, now + 10s));
    EXPECT_EQ(late.blocked_until(0, other, now + 10s), now + 10s) << "over";
}

TEST(NbdLateWrites, MergesWhatIsTooMuch) {
    nbd::LateWrites late(10s);
    const auto now = nbd::LateWrites::Clock::now();
    const auto page = pattern(0, 4096);
    for (std::uint64_t i = 0; i < 2000; ++i) late.note(i * 4096, page, now);
    const auto other = pattern(0, 4096, 1);
    for (std::uint64_t i = 0; i < 2000; ++i) EXPECT_GT(late.blocked_until(i * 4096, other, now), now) << i;
}

}  // namespace
}  // namespace farswap::test
