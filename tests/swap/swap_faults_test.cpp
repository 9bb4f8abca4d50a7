// The swap area on a store that fails: wrong content, errors that pass and errors that stay, lost writes.
#include "area_fixture.h"

namespace farswap::test {
namespace {

using SwapFaultsTest = AreaTest;
using ::testing::HasSubstr;

TEST_F(SwapFaultsTest, AChangedPageIsRefusedAndItsNeighboursAreServed) {
    const std::vector<SlotId> slots = add_pages(4, 0);
    push_out();
    store_->corrupt(1 * kPageSize + 100);
    Fetch bad(slots[1], {slots[0], 4}), good(slots[2]);
    area_->fetch(bad);
    area_->fetch(good);
    settle();
    EXPECT_EQ(bad.result, -EILSEQ);
    EXPECT_TRUE(bad.page.empty());
    EXPECT_EQ(good.result, 0);
    EXPECT_TRUE(page_holds(good.page.data(), 2));
    EXPECT_EQ(area_->lookup(slots[1]), nullptr) << "wrong bytes must not be found in the cache";
    EXPECT_EQ(fetch_now(slots[1]).result, -EILSEQ);
}

TEST_F(SwapFaultsTest, AReadErrorThatPassesIsNotSeen) {
    const std::vector<SlotId> slots = add_pages(4, 0);
    push_out();
    store_->fail_next(Kind::kRead, EIO, 3);
    EXPECT_EQ(fetch_now(slots[1], {slots[0], 4}).result, 0);
}

TEST_F(SwapFaultsTest, AReadErrorThatStaysReachesItsPageOnly) {
    const std::vector<SlotId> slots = add_pages(4, 0);
    push_out();
    store_->break_page(0);
    Fetch broken(slots[0], {slots[0], 4}), good(slots[1]);
    area_->fetch(broken);
    area_->fetch(good);
    settle();
    EXPECT_EQ(broken.result, -EIO);
    EXPECT_EQ(good.result, 0);
    EXPECT_TRUE(page_holds(good.page.data(), 1));
    EXPECT_EQ(area_->counters().frames_dirty, 0u);
    EXPECT_TRUE(failures_.empty()) << "reading is no reason to give the store up";
}

TEST_F(SwapFaultsTest, AWriteErrorThatPassesIsNotSeen) {
    store_->fail_next(Kind::kWrite, ETIMEDOUT, 4);
    const std::vector<SlotId> slots = add_pages(64, 0);
    push_out();
    EXPECT_TRUE(failures_.empty());
    EXPECT_TRUE(page_holds(fetch_now(slots[5]).page.data(), 5));
}

TEST_F(SwapFaultsTest, AStoreThatFailsForGoodIsReportedOnceAndItsPagesStay) {
    store_->fail_next(Kind::kWrite, EIO, 1000);
    const std::vector<SlotId> slots = add_pages(192, 0);
    settle();
    ASSERT_EQ(failures_.size(), 1u);
    EXPECT_EQ(failures_[0].code, EIO);
    EXPECT_THAT(failures_[0].message, HasSubstr("memory:"));
    for (std::uint32_t i = 0; i < 192; ++i) EXPECT_TRUE(page_holds(area_->lookup(slots[i]), i));
    EXPECT_TRUE(area_->slots_exhausted());
    EXPECT_TRUE(add_pages(1, 0).empty());
    EXPECT_EQ(area_->counters().pages_written, 0u);
}

TEST_F(SwapFaultsTest, AFullStoreIsNotTriedAgain) {
    store_->fail_next(Kind::kWrite, ENOSPC, 1);
    add_pages(64, 0);
    settle();
    ASSERT_EQ(failures_.size(), 1u);
    EXPECT_EQ(failures_[0].code, ENOSPC);
    EXPECT_EQ(store_->lengths.size(), 1u);
}

TEST_F(SwapFaultsTest, ABlockThatALateWriteMayHitIsNotGivenToAnotherPage) {
    const std::uint64_t first = 32 * kPageSize, end = 40 * kPageSize;
    const auto is_hit = [&](const auto& write) {
        return write.first < end && first < write.first + write.second;
    };
    const std::vector<SlotId> slots = add_pages(64, 0);
    settle();
    store_->doubts = {{first, end - first}};
    for (const SlotId slot : slots) area_->put(slot);
    EXPECT_EQ(area_->slots_used(), 0u);
    EXPECT_EQ(pool_->free_frames(), pool_->frames());
    // Every other place is used before one of these is.
    store_->written.clear();
    const std::uint64_t others = area_->slots_capacity() - 8;
    for (std::uint64_t added = 0; added < others;) {
        added +=
            add_pages(static_cast<std::uint32_t>(std::min<std::uint64_t>(64, others - added)), added).size();
        area_->kick_writes();
        settle();
    }
    EXPECT_TRUE(std::ranges::none_of(store_->written, is_hit));
    EXPECT_TRUE(add_pages(1, 0).empty());
    EXPECT_FALSE(area_->slots_exhausted()) << "eight will come back";
    store_->doubts.clear();
    store_->written.clear();
    std::size_t added = 0;
    ASSERT_TRUE(run_until([&] {
        added += add_pages(static_cast<std::uint32_t>(8 - added), 1).size();
        area_->kick_writes();
        return added == 8;
    }));
    settle();
    EXPECT_TRUE(std::ranges::all_of(store_->written, is_hit));
    EXPECT_TRUE(area_->slots_exhausted());
}

TEST_F(SwapFaultsTest, SpaceThatIsReservedByALateWriteIsNotUsedBeforeTime) {
    open({.stores = {{.capacity = 128 * kPageSize, .reserved = 64 * kPageSize}}});
    const std::uint64_t first = 80 * kPageSize, end = 84 * kPageSize;
    store_->doubts = {{first, end - first}};
    add_pages(64, 0);
    settle();
    ASSERT_TRUE(run_until([this] { return store_->reserved() == 128 * kPageSize; }));
    for (std::uint64_t added = 0; added < 60;) {
        const std::vector<SlotId> next = add_pages(static_cast<std::uint32_t>(60 - added), added);
        ASSERT_FALSE(next.empty());
        added += next.size();
        area_->kick_writes();
        settle();
    }
    EXPECT_TRUE(std::ranges::none_of(store_->written, [&](const auto& write) {
        return write.first < end && first < write.first + write.second;
    }));
    EXPECT_TRUE(add_pages(1, 0).empty());
    store_->doubts.clear();
    std::size_t added = 0;
    ASSERT_TRUE(run_until([&] {
        added += add_pages(static_cast<std::uint32_t>(4 - added), 1).size();
        return added == 4;
    }));
}

TEST_F(SwapFaultsTest, LostWritesAreWrittenAgain) {
    std::mt19937 random(1);
    const std::vector<SlotId> slots = add_pages(128, 0);
    ASSERT_TRUE(store_->complete_one(Kind::kWrite));
    ASSERT_TRUE(store_->complete_one(Kind::kWrite));
    store_->restart(random);
    push_out();
    EXPECT_EQ(area_->counters().pages_written, 128u + 128u + 1u);
    for (std::uint32_t i = 0; i < 128; ++i) EXPECT_TRUE(page_holds(fetch_now(slots[i]).page.data(), i));
}

TEST_F(SwapFaultsTest, AWriteInFlightAtARestartIsWrittenAgain) {
    std::mt19937 random(1);
    for (int round = 0; round < 8;
         ++round) {  // restart() chooses at random whether the write had been executed
        const std::vector<SlotId> slots = add_pages(128, 1000);
        ASSERT_TRUE(store_->complete_one(Kind::kWrite));
        ASSERT_EQ(store_->pending(Kind::kWrite), 1u);
        store_->restart(random);
        run_loop();
        area_->kick_writes();
        settle();
        drop_clean();
        for (std::uint32_t i = 0; i < 128; ++i) {
            const Fetch fetch = fetch_now(slots[i]);
            ASSERT_EQ(fetch.result, 0);
            ASSERT_TRUE(page_holds(fetch.page.data(), 1000 + i));
            area_->put(slots[i]);
        }
    }
}

TEST_F(SwapFaultsTest, AfterADeviceErrorAtFlushEverythingIsWrittenAgain) {
    store_->fail_next(Kind::kFlush, EIO, 2);
    const std::vector<SlotId> slots = add_pages(64, 0);
    push_out();
    EXPECT_TRUE(failures_.empty());
    EXPECT_GE(area_->counters().pages_written, 3u * 64);
    EXPECT_TRUE(page_holds(fetch_now(slots[63]).page.data(), 63));
}

TEST_F(SwapFaultsTest, AFlushThatTimedOutIsSentAgainAlone) {
    store_->fail_next(Kind::kFlush, ETIMEDOUT, 4);
    add_pages(64, 0);
    settle();
    EXPECT_TRUE(failures_.empty());
    EXPECT_EQ(area_->counters().pages_written, 64u);
    EXPECT_EQ(area_->counters().frames_clean, 64u);
}

TEST_F(SwapFaultsTest, AFlushThatNeverSucceedsFailsTheStore) {
    store_->fail_next(Kind::kFlush, ENOMEM, 1000);
    const std::vector<SlotId> slots = add_pages(64, 0);
    settle();
    ASSERT_EQ(failures_.size(), 1u);
    EXPECT_EQ(failures_[0].code, ENOMEM);
    EXPECT_EQ(area_->counters().frames_clean, 0u) << "no frame is given away without a flush";
    EXPECT_TRUE(page_holds(area_->lookup(slots[0]), 0));
}

TEST_F(SwapFaultsTest, AStoreOutOfReachIsAskedAgainHoweverOftenItFails) {
    // Retries wait 0 ms here, so that these are over at once.
    store_->fail_next(Kind::kWrite, ETIMEDOUT, 40);
    store_->fail_next(Kind::kFlush, ECONNREFUSED, 40);
    const std::vector<SlotId> slots = add_pages(64, 0);
    push_out();
    store_->fail_next(Kind::kRead, EHOSTUNREACH, 40);
    EXPECT_TRUE(page_holds(fetch_now(slots[5]).page.data(), 5));
    EXPECT_TRUE(failures_.empty());
}

TEST_F(SwapFaultsTest, TellsSinceWhenAStoreOwesAnAnswer) {
    EXPECT_TRUE(area_->waits().empty());
    const auto before = io::Clock::now();
    const std::vector<SlotId> slots = add_pages(128, 0);
    ASSERT_EQ(area_->waits().size(), 1u);
    const StoreWait first = area_->waits()[0];
    EXPECT_EQ(first.store, store_);
    EXPECT_GE(first.since, before);
    store_->fail_next(Kind::kWrite, ETIMEDOUT, 1);
    ASSERT_TRUE(store_->complete_one(Kind::kWrite));
    ASSERT_EQ(area_->waits().size(), 1u);
    EXPECT_EQ(area_->waits()[0].since, first.since) << "a failure is no answer";
    ASSERT_TRUE(store_->complete_one(Kind::kWrite));
    ASSERT_EQ(area_->waits().size(), 1u) << "the other write is still to come";
    EXPECT_GT(area_->waits()[0].since, first.since);
    settle();
    EXPECT_TRUE(area_->waits().empty());
    push_out();
    Fetch fetch(slots[0]);
    area_->fetch(fetch);
    EXPECT_EQ(area_->waits().size(), 1u);
    settle();
    EXPECT_TRUE(area_->waits().empty());
}

TEST_F(SwapFaultsTest, AFrameChangedAfterAddAborts) {
    const FrameRun frames = area_->take_frames(1);
    fill_page(pool_->address(frames.first), 1);
    ASSERT_TRUE(area_->add(frames).has_value());
    *pool_->address(frames.first) = std::byte{0};
    EXPECT_DEATH(area_->kick_writes(), "unchanged");
    fill_page(pool_->address(frames.first), 1);
}

TEST_F(SwapFaultsTest, OneOfTwoStoresFailsAndTheOtherGoesOn) {
    open({.stores = {{.name = "a"}, {.name = "b"}}});
    stores_[0]->fail_next(Kind::kWrite, EROFS, 1);
    add_pages(128, 0);
    settle();
    EXPECT_TRUE(failures_.empty()) << "the job need not stop";
    EXPECT_EQ(add_pages(128, 0).size(), 128u);
    settle();
    EXPECT_EQ(stores_[1]->lengths, std::vector<std::uint32_t>({64, 64, 64}));
}

}  // namespace
}  // namespace farswap::test
