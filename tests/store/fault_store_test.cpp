// The test double itself: every fault does what it says, and nothing else.
#include "store/fault_store.h"

#include "store/no_store.h"
#include "store_fixture.h"

namespace farswap {
namespace {

using Effect = Fault::Effect;
using On = Fault::On;

class FaultStoreTest : public StoreTest {
  protected:
    void SetUp() override {
        StoreTest::SetUp();
        auto inner = open(directory_url("4M"));
        ASSERT_TRUE(inner) << inner.error().message;
        store_ = std::make_unique<FaultStore>(std::move(*inner), *loop_);
        out_.fill(1);
    }
    void TearDown() override {
        store_.reset();
        StoreTest::TearDown();
    }
    int write(std::uint64_t offset = 0) {
        Transfer transfer(WRITE, offset, out_);
        return run(*store_, transfer);
    }
    int read(std::uint64_t offset = 0) {
        Transfer transfer(READ, offset, in_);
        return run(*store_, transfer);
    }
    std::size_t differing_pages() const {
        std::size_t count = 0;
        for (std::size_t at = 0; at < in_.size(); at += kPageSize)
            count += std::memcmp(in_.data() + at, out_.data() + at, kPageSize) != 0;
        return count;
    }
    static constexpr int kLength = 4 * kPageSize;
    Memory out_{kLength}, in_{kLength};
    std::unique_ptr<FaultStore> store_;
};

TEST_F(FaultStoreTest, PassesEverythingWithoutFaults) {
    EXPECT_EQ(write(), kLength);
    EXPECT_EQ(flush(*store_), 0);
    EXPECT_EQ(read(), kLength);
    EXPECT_EQ(differing_pages(), 0u);
    EXPECT_EQ(reserve(*store_, 1 << 20), 0);
    EXPECT_EQ(store_->struck(), 0u);
    EXPECT_EQ(store_->counters().writes, 1u);
}

TEST_F(FaultStoreTest, ErrorsAreCounted) {
    store_->inject({.on = On::kWrite, .skip = 1, .times = 2, .error = -ENOSPC});
    EXPECT_EQ(write(), kLength);
    EXPECT_EQ(write(), -ENOSPC);
    EXPECT_EQ(write(), -ENOSPC);
    EXPECT_EQ(write(), kLength);
    store_->inject({.on = On::kReserve, .error = -ENOSPC});
    EXPECT_EQ(reserve(*store_, 1), -ENOSPC);
    store_->inject({.on = On::kFlush, .error = -EIO});
    EXPECT_EQ(flush(*store_), -EIO);
    EXPECT_EQ(flush(*store_), 0);
}

TEST_F(FaultStoreTest, TornShortCorruptAndLost) {
    ASSERT_EQ(write(), kLength);
    store_->inject({.on = On::kRead, .effect = Effect::kTorn});
    EXPECT_EQ(read(), kLength);
    EXPECT_EQ(differing_pages(), 2u);
    store_->inject({.on = On::kRead, .effect = Effect::kCorrupt});
    EXPECT_EQ(read(), kLength);
    EXPECT_EQ(differing_pages(), 1u);
    store_->inject({.on = On::kRead, .effect = Effect::kShort, .error = -ETIMEDOUT});
    EXPECT_EQ(read(), -ETIMEDOUT);
    EXPECT_EQ(read(), kLength);
    EXPECT_EQ(differing_pages(), 0u);

    out_.fill(100);
    store_->inject({.on = On::kWrite, .effect = Effect::kLost});
    EXPECT_EQ(write(), kLength);
    EXPECT_EQ(read(), kLength);
    EXPECT_EQ(differing_pages(), 4u);
    store_->inject({.on = On::kWrite, .effect = Effect::kTorn});
    EXPECT_EQ(write(), kLength);
    EXPECT_EQ(read(), kLength);
    EXPECT_EQ(differing_pages(), 2u);
    store_->inject({.on = On::kWrite, .effect = Effect::kCorrupt});
    EXPECT_EQ(write(), kLength);
    EXPECT_EQ(read(), kLength);
    EXPECT_EQ(differing_pages(), 1u);
    EXPECT_EQ(out_.data()[0], std::byte{100}) << "the caller's memory is not touched";
}

TEST_F(FaultStoreTest, UnflushedWritesAreVisibleAndCanBeLost) {
    ASSERT_EQ(write(), kLength);
    store_->hold_writes_until_flush();
    out_.fill(50);
    ASSERT_EQ(write(), kLength);
    EXPECT_EQ(store_->unflushed_pages(), 4u);
    ASSERT_EQ(read(), kLength);
    EXPECT_EQ(differing_pages(), 0u);
    store_->lose_unflushed();
    ASSERT_EQ(read(), kLength);
    EXPECT_EQ(differing_pages(), 4u) << "the old content is back";
    EXPECT_EQ(flush(*store_), -ESTALE);
    EXPECT_EQ(store_->counters().lost_writes, 1u);

    ASSERT_EQ(write(), kLength);
    EXPECT_EQ(flush(*store_), 0);
    EXPECT_EQ(store_->unflushed_pages(), 0u);
    store_->lose_unflushed();
    ASSERT_EQ(read(), kLength);
    EXPECT_EQ(differing_pages(), 0u) << "flushed, so it is safe";
}

TEST_F(FaultStoreTest, HalfOfAnUnflushedWriteIsWholePages) {
    store_ = std::make_unique<FaultStore>(make_no_store(kLength), *loop_);
    EXPECT_EQ(store_->alignment(), 1u);
    store_->hold_writes_until_flush();
    EXPECT_EQ(store_->alignment(), kPageSize);
    store_->inject({.on = On::kWrite, .effect = Effect::kShort, .error = -ETIMEDOUT});
    Memory odd(3 * kPageSize);
    Transfer transfer(WRITE, 0, odd);
    EXPECT_EQ(run(*store_, transfer), -ETIMEDOUT);
    EXPECT_EQ(store_->unflushed_pages(), 1u);
}

TEST_F(FaultStoreTest, DelayReordersAndEndsWhenAllIsQuiet) {
    store_->inject({.on = On::kWrite, .effect = Effect::kDelay, .delay = 3, .quiet = std::chrono::hours(1)});
    Transfer late(WRITE, 0, out_);
    store_->submit(late);
    for (int i = 0; i < 3; ++i) {
        EXPECT_EQ(late.completions, 0) << i;
        Transfer next(WRITE, kLength, out_);
        EXPECT_EQ(run(*store_, next), kLength);
    }
    run_until([&] { return late.completions > 0; });
    store_->inject({.on = On::kWrite, .effect = Effect::kDelay, .delay = 1000});
    EXPECT_EQ(write(), kLength);
}

TEST_F(FaultStoreTest, PausedOperationsWaitAndCanBeCancelled) {
    store_->pause();
    Transfer first(WRITE, 0, out_), second(WRITE, kLength, out_);
    store_->submit(first);
    store_->submit(second);
    for (int i = 0; i < 5; ++i) loop_->run_once(std::chrono::milliseconds(2));
    EXPECT_EQ(first.completions + second.completions, 0);
    store_->cancel(second);
    run_until([&] { return second.completions > 0; });
    EXPECT_EQ(second.result, -ECANCELED);
    store_->resume();
    run_until([&] { return first.completions > 0; });
    EXPECT_EQ(first.result, kLength);
}

TEST_F(FaultStoreTest, SameSeedSameFaults) {
    const auto pattern = [&](std::uint64_t seed) {
        auto inner = open(directory_url("4M"));
        EXPECT_TRUE(inner);
        FaultStore store(std::move(*inner), *loop_, seed);
        store.inject({.on = On::kRead, .times = ~std::uint64_t{0}, .probability = 0.5});
        std::vector<bool> failed;
        for (int i = 0; i < 64; ++i) {
            Transfer transfer(READ, 0, in_);
            failed.push_back(run(store, transfer) < 0);
        }
        return failed;
    };
    EXPECT_EQ(pattern(7), pattern(7));
    EXPECT_NE(pattern(7), pattern(8));
}

}  // namespace
}  // namespace farswap
