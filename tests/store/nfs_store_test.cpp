// The NFS store's transfers, flushes and reserved space, against nfs-ganesha.
#include <gmock/gmock.h>

#include <random>

#include "base/units.h"
#include "nfs_driver.h"
#include "nfs_server.h"

namespace farswap::test {
namespace {

class NfsStoreTest : public testing::TestWithParam<int>, protected Driver {
  protected:
    void SetUp() override {
        if (!nfs_server_available()) GTEST_SKIP() << "needs root and nfs-ganesha";
        server = std::make_unique<NfsServer>();
        server->version = GetParam();
        auto opened = open(server->url("export", "&size=64M"));
        ASSERT_TRUE(opened) << opened.error().message;
        store = std::move(*opened);
    }
    void TearDown() override {
        if (store) store->close();
    }
    std::unique_ptr<NfsServer> server;
    std::unique_ptr<Store> store;
};

TEST_P(NfsStoreTest, SaysWhatItIs) {
    EXPECT_EQ(store->capacity(), 64 * kMiB);
    EXPECT_EQ(store->reserved(), 16 * kMiB);
    EXPECT_EQ(store->transfer_max(), kMiB);
    EXPECT_THAT(store->name(), testing::StartsWith("nfs://127.0.0.1/"));
}

TEST_P(NfsStoreTest, ReadsBackWhatWasWritten) {
    // Odd lengths need XDR padding; those above the transfer size are split.
    std::uint64_t offset = 0;
    for (const std::size_t size :
         {1u, 2u, 3u, 5u, 4096u, 4099u, 65536u, 1u << 20, (1u << 20) + 1, 3u << 20}) {
        const auto bytes = pattern(offset, size);
        ASSERT_EQ(write(*store, offset, bytes), static_cast<int>(size));
        EXPECT_TRUE(read(*store, offset, size) == bytes) << size << " bytes at " << offset;
        offset += size + 7;
    }
    const auto counters = store->counters();
    EXPECT_EQ(counters.bytes_read, counters.bytes_written);
    EXPECT_EQ(counters.writes, 10u + 1 + 2);
}

TEST_P(NfsStoreTest, KeepsManyTransfersApart) {
    constexpr std::size_t kSlots = 1000, kSize = 8192;
    std::mt19937 random(1);
    std::deque<Transfer> writes;
    for (std::size_t slot = 0; slot < kSlots; ++slot)
        writes.emplace_back(WRITE, slot * kSize, pattern(slot * kSize, kSize));
    std::vector<std::size_t> order(kSlots);
    for (std::size_t i = 0; i < kSlots; ++i) order[i] = i;
    std::shuffle(order.begin(), order.end(), random);
    for (const std::size_t i : order) store->submit(writes[i]);
    ASSERT_TRUE(run_until([&] { return std::ranges::all_of(writes, &Transfer::completed); }));
    std::deque<Transfer> reads;
    for (std::size_t i = 0; i < kSlots; ++i) {
        const std::size_t size = 1 + random() % kSize, offset = random() % (kSlots * kSize - size);
        reads.emplace_back(READ, offset, std::vector<std::byte>(size));
    }
    for (Transfer& transfer : reads) store->submit(transfer);
    ASSERT_TRUE(run_until([&] { return std::ranges::all_of(reads, &Transfer::completed); }));
    for (const Transfer& transfer : writes) EXPECT_EQ(transfer.result, static_cast<int>(kSize));
    for (const Transfer& transfer : reads)
        EXPECT_TRUE(transfer.memory == pattern(transfer.offset, transfer.length));
}

TEST_P(NfsStoreTest, CopiesNothingBetweenMemoryAndSocket) {
    for (const std::size_t size : {4096u, 65536u, 1u << 20, 2u << 20}) {
        for (const std::size_t depth : {1u, 2u, 16u, 60u}) {
            std::deque<Transfer> transfers;
            for (std::size_t i = 0; i < depth; ++i)
                transfers.emplace_back(WRITE, i * size % (14 * kMiB), pattern(i * size % (14 * kMiB), size));
            for (Transfer& transfer : transfers) store->submit(transfer);
            for (Transfer& transfer : transfers) ASSERT_EQ(finish(transfer), static_cast<int>(size));
            for (Transfer& transfer : transfers) {
                transfer.op = READ;
                transfer.completed = false;
                std::ranges::fill(transfer.memory, std::byte{0});
            }
            for (Transfer& transfer : transfers) store->submit(transfer);
            for (Transfer& transfer : transfers) {
                ASSERT_EQ(finish(transfer), static_cast<int>(size));
                ASSERT_TRUE(transfer.memory == pattern(transfer.offset, size));
            }
        }
    }
    EXPECT_GT(store->counters().bytes_read, 200 * kMiB);
    EXPECT_EQ(store->counters().bytes_copied, 0u);
}

TEST_P(NfsStoreTest, RefusesBadRequestsFromTheLoopOnly) {
    const std::vector<std::byte> page(kPageSize);
    Transfer unpinned(KERNEL_WRITE, 0, page), empty(READ, 0, {}), beyond(READ, store->capacity() - 1, page),
        unreserved(WRITE, store->reserved(), page), wrapped(READ, ~std::uint64_t{0} - 100, page);
    for (Transfer* transfer : {&unpinned, &empty, &beyond, &unreserved, &wrapped}) {
        store->submit(*transfer);
        EXPECT_FALSE(transfer->completed);
        EXPECT_EQ(finish(*transfer), -EINVAL);
    }
}

TEST_P(NfsStoreTest, FlushesWithOneCommit) {
    EXPECT_EQ(flush(*store), 0);
    EXPECT_EQ(store->counters().flushes, 0u) << "there was nothing to commit";
    ASSERT_EQ(write(*store, 0, pattern(0, kMiB)), static_cast<int>(kMiB));
    EXPECT_EQ(flush(*store), 0);
    EXPECT_EQ(flush(*store), 0);
    EXPECT_EQ(store->counters().flushes, 1u);
}

TEST_P(NfsStoreTest, ReservesSpaceByWritingIt) {
    EXPECT_EQ(reserve(*store, kMiB), 0);
    EXPECT_EQ(store->reserved(), 16 * kMiB);
    ASSERT_EQ(write(*store, 15 * kMiB, pattern(15 * kMiB, kMiB)), static_cast<int>(kMiB));
    EXPECT_EQ(reserve(*store, 40 * kMiB + 5), 0);
    EXPECT_EQ(store->reserved(), 40 * kMiB + 5);
    EXPECT_TRUE(read(*store, 15 * kMiB, kMiB) == pattern(15 * kMiB, kMiB));
    EXPECT_TRUE(read(*store, 39 * kMiB, kMiB) == std::vector<std::byte>(kMiB));
    EXPECT_EQ(write(*store, 39 * kMiB, pattern(0, kMiB)), static_cast<int>(kMiB));
    EXPECT_EQ(reserve(*store, 65 * kMiB), -ENOSPC);
    EXPECT_EQ(reserve(*store, 64 * kMiB), 0);
    EXPECT_EQ(std::filesystem::file_size(server->path("export/farswap-test")), 64 * kMiB + 4096);
}

TEST_P(NfsStoreTest, CompletionsMaySubmitAgain) {
    struct Chain : Transfer {
        using Transfer::Transfer;
        Store* store = nullptr;
        int left = 200;
    } chain(READ, 0, std::vector<std::byte>(kPageSize));
    chain.store = store.get();
    chain.complete = [](Request& request, int result) {
        auto& self = static_cast<Chain&>(static_cast<Transfer&>(request));
        self.result = result;
        self.completed = --self.left == 0;
        if (!self.completed) self.store->submit(self);
    };
    store->submit(chain);
    EXPECT_EQ(finish(chain), static_cast<int>(kPageSize));
}

TEST_P(NfsStoreTest, CancelsWaitingAndSentReads) {
    std::deque<Transfer> reads;
    for (int i = 0; i < 200; ++i) reads.emplace_back(READ, 0, std::vector<std::byte>(kMiB));
    for (Transfer& transfer : reads) store->submit(transfer);
    for (Transfer& transfer : reads) store->cancel(transfer);
    EXPECT_FALSE(reads.front().completed) << "answered from inside cancel()";
    for (Transfer& transfer : reads) EXPECT_EQ(finish(transfer), -ECANCELED);
    ASSERT_EQ(write(*store, 0, pattern(0, kPageSize)), static_cast<int>(kPageSize));
    EXPECT_TRUE(read(*store, 0, kPageSize) == pattern(0, kPageSize));
}

INSTANTIATE_TEST_SUITE_P(Versions, NfsStoreTest, testing::Values(3, 4), testing::PrintToStringParamName());

}  // namespace
}  // namespace farswap::test
