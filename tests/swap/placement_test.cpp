// Stores of several priorities: which gets the pages, what happens when one is full, slow or failed.
#include "area_fixture.h"

#include <numeric>

namespace farswap::test {
namespace {

using ::testing::HasSubstr;

class PlacementTest : public AreaTest {
  protected:
    static constexpr std::uint64_t kSmall = 64 * kPageSize;

    void open_with(const std::vector<MemoryStoreOptions>& stores, const std::vector<int>& priorities,
                   std::chrono::milliseconds patience = std::chrono::milliseconds(0)) {
        Setup setup{.stores = stores, .area = quick()};
        setup.area.priorities = priorities;
        setup.area.overflow_patience = patience;
        open(setup);
    }
    /// Pages of each store that have been asked to be written.
    std::vector<std::uint32_t> pages_written() const {
        std::vector<std::uint32_t> pages;
        for (const MemoryStore* store : stores_)
            pages.push_back(std::accumulate(store->lengths.begin(), store->lengths.end(), 0u));
        return pages;
    }
    void write(std::uint32_t count, std::uint64_t value) {
        EXPECT_EQ(add_pages(count, value).size(), count);
        area_->kick_writes();
        settle();
    }
};

TEST_F(PlacementTest, TheHighestPriorityIsUsedFirst) {
    open_with({{.name = "a"}, {.name = "b"}, {.name = "c"}}, {0, 7, 3});
    write(300, 0);
    EXPECT_EQ(pages_written(), std::vector<std::uint32_t>({0, 300, 0}));
}

TEST_F(PlacementTest, EqualOnesTakeTurnsAndOnesWithoutComeLast) {
    open_with({{.name = "none"}, {.name = "b"}, {.name = "also none"}, {.name = "d"}},
              {SwapAreaOptions::kNoPriority, 0, SwapAreaOptions::kNoPriority, 0});
    write(256, 0);
    EXPECT_EQ(pages_written(), std::vector<std::uint32_t>({0, 128, 0, 128}));
}

TEST_F(PlacementTest, WithoutAnyPriorityAllTakeTurns) {
    open_with({{.name = "a"}, {.name = "b"}}, {});
    write(256, 0);
    EXPECT_EQ(pages_written(), std::vector<std::uint32_t>({128, 128}));
}

TEST_F(PlacementTest, LowerOnesTakeTheOverflowAndFreedRoomIsUsedAgain) {
    open_with({{.name = "low"}, {.name = "high", .capacity = kSmall, .reserved = kSmall}}, {1, 2});
    std::vector<SlotId> slots = add_pages(100, 0);
    push_out();
    EXPECT_EQ(pages_written()[1], 64u);
    EXPECT_EQ(pages_written()[0], 100u - 64 + 1);
    for (std::uint32_t i = 0; i < 100; ++i) EXPECT_TRUE(page_holds(fetch_now(slots[i]).page.data(), i));
    for (std::uint32_t i = 0; i < 64; ++i) area_->put(slots[i]);  // those that lie on the high one
    settle();
    for (MemoryStore* store : stores_) store->lengths.clear();
    write(64, 500);
    EXPECT_EQ(pages_written(), std::vector<std::uint32_t>({0, 64}));
    EXPECT_FALSE(area_->slots_exhausted());
}

TEST_F(PlacementTest, PagesWaitForAHighStoreThatIsBeingEnlarged) {
    open_with({{.name = "low"}, {.name = "high", .capacity = 4 * kSmall, .reserved = kSmall}}, {1, 2},
              std::chrono::hours(1));
    EXPECT_EQ(add_pages(100, 0).size(), 64u) << "the rest is worth waiting for";
    EXPECT_EQ(stores_[1]->pending(Kind::kReserve), 1u);
    ASSERT_TRUE(stores_[1]->complete_one(Kind::kReserve));
    EXPECT_EQ(wakes_, 1);
    EXPECT_EQ(add_pages(36, 64).size(), 36u);
    area_->kick_writes();
    settle();
    EXPECT_EQ(pages_written(), std::vector<std::uint32_t>({0, 100}));
}

TEST_F(PlacementTest, PagesDoNotWaitLongForIt) {
    open_with({{.name = "low"}, {.name = "high", .capacity = 4 * kSmall, .reserved = kSmall}}, {1, 2},
              std::chrono::milliseconds(1));
    add_pages(64, 0);
    EXPECT_TRUE(add_pages(1, 64).empty());
    while (wakes_ == 0) loop_->run_once(std::chrono::seconds(10));  // the end of the patience, nothing else
    EXPECT_EQ(stores_[1]->pending(Kind::kReserve), 1u) << "not answered yet";
    EXPECT_EQ(add_pages(36, 64).size(), 36u);
    area_->kick_writes();
    settle();
    EXPECT_EQ(pages_written(), std::vector<std::uint32_t>({36, 64}));
}

TEST_F(PlacementTest, AFullHighStoreIsNotWaitedFor) {
    open_with({{.name = "low"}, {.name = "high", .capacity = kSmall, .reserved = kSmall}}, {1, 2},
              std::chrono::hours(1));
    EXPECT_EQ(add_pages(100, 0).size(), 100u);
}

TEST_F(PlacementTest, AStoreThatHangsLeavesFramesToTheOthers) {
    open_with({{.name = "a"}, {.name = "b"}}, {});
    std::uint32_t added = 0;
    for (int round = 0; round < 200; ++round) {
        added += static_cast<std::uint32_t>(add_pages(64, added).size());
        area_->kick_writes();
        stores_[1]->complete_all();  // a answers nothing
        run_loop();
        stores_[1]->complete_all();
        run_loop();
    }
    EXPECT_GT(added, 3000u) << "b went on: " << pages_written()[0] << " and " << pages_written()[1];
    EXPECT_LE(area_->counters().frames_dirty, pool_->frames() / 4 * 3 + 64u);
}

TEST_F(PlacementTest, WhatAFailedStoreHoldsStaysReadableAndTheOthersGoOn) {
    open_with({{.name = "a"}, {.name = "b"}}, {5, 5});
    const std::vector<SlotId> slots = add_pages(128, 0);
    push_out();
    testing::internal::CaptureStderr();
    stores_[0]->fail_next(Kind::kWrite, ENOSPC, 1);
    const std::vector<SlotId> more = add_pages(128, 1000);
    area_->kick_writes();
    settle();
    const std::string said = testing::internal::GetCapturedStderr();
    EXPECT_THAT(said, HasSubstr("a: cannot write, given up: No space left on device"));
    EXPECT_THAT(said, HasSubstr("the other stores get the rest"));
    EXPECT_TRUE(failures_.empty()) << "the job need not stop";
    for (std::uint32_t i = 0; i < 128; ++i) {
        EXPECT_TRUE(page_holds(fetch_now(slots[i]).page.data(), i));
        EXPECT_TRUE(page_holds(fetch_now(more[i]).page.data(), 1000 + i));
    }
    const std::uint64_t before = stores_[0]->counters().writes;
    for (int i = 0; i < 20; ++i) {
        const std::vector<SlotId> again = add_pages(128, 0);
        EXPECT_EQ(again.size(), 128u);
        area_->kick_writes();
        settle();
        for (const SlotId slot : again) area_->put(slot);
        settle();
    }
    EXPECT_EQ(stores_[0]->counters().writes, before) << "nothing more is written to a";
}

TEST_F(PlacementTest, AHighStoreThatFailsIsReplacedByTheLowOne) {
    open_with({{.name = "low"}, {.name = "high"}}, {1, 2}, std::chrono::hours(1));
    stores_[1]->fail_next(Kind::kWrite, EROFS, 1);
    write(64, 0);
    write(64, 64);
    EXPECT_EQ(pages_written()[0], 64u);
    EXPECT_TRUE(failures_.empty());
}

TEST_F(PlacementTest, TheLastStoreThatFailsIsReported) {
    open_with({{.name = "low"}, {.name = "high"}}, {1, 2});
    stores_[1]->fail_next(Kind::kWrite, EROFS, 1);
    write(64, 0);
    EXPECT_TRUE(failures_.empty());
    stores_[0]->fail_next(Kind::kWrite, EROFS, 1);
    write(64, 0);
    ASSERT_EQ(failures_.size(), 1u);
    EXPECT_THAT(failures_[0].message, HasSubstr("low: cannot write"));
    EXPECT_TRUE(area_->slots_exhausted());
}

TEST_F(PlacementTest, AStoreThatCannotGrowAnyMoreIsLeftAsItIs) {
    open_with({{.name = "low"}, {.name = "high", .capacity = 4 * kSmall, .reserved = kSmall}}, {1, 2});
    stores_[1]->fail_next(Kind::kReserve, EROFS, 100);
    write(64, 0);
    write(100, 64);
    EXPECT_TRUE(failures_.empty());
    EXPECT_EQ(pages_written(), std::vector<std::uint32_t>({100, 64}));
}

}  // namespace
}  // namespace farswap::test
