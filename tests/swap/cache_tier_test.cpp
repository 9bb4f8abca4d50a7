// Pages that stay in memory, compressed, before they are written and after they have come back.
#include <gtest/gtest.h>

#include <random>

#include "area_fixture.h"

namespace farswap::test {
namespace {

// Values whose pages fill_page() makes a good deal shorter: 512 bytes as records; and no shorter.
constexpr std::uint64_t kShort = 3;
constexpr std::uint64_t kNoise = 4;

/// Sealed in memory, or in the clear.
class CacheTierTest : public AreaTest, public ::testing::WithParamInterface<bool> {
  protected:
    CacheTierTest() { open_tier(); }

    /// Room for four times `records` of short pages at most; for as many to begin with.
    void open_tier(std::uint64_t records = 512, std::uint64_t store_bytes = std::uint64_t{64} << 20) {
        SwapAreaOptions options = quick();
        options.compression = Compression::kLz4;
        options.cache_tier = 4 * records * 512;
        options.seal_memory = GetParam();
        open(
            {.frames = 256, .stores = {{.capacity = store_bytes, .reserved = store_bytes}}, .area = options});
    }
    /// `count` short pages, each with a value of its own.
    std::vector<SlotId> add_short(std::uint64_t count, std::uint64_t first = 0) {
        std::vector<SlotId> slots;
        for (std::uint64_t i = first; i < first + count; ++i) {
            auto one = add_pages(1, kShort + 4 * i);
            if (one.empty()) {
                settle();
                one = add_pages(1, kShort + 4 * i);
            }
            if (one.empty()) break;
            slots.push_back(one[0]);
        }
        return slots;
    }
    void expect_right(const std::vector<SlotId>& slots, std::uint64_t first = 0) {
        for (std::size_t i = 0; i < slots.size(); ++i) {
            const Fetch fetch = fetch_now(slots[i]);
            ASSERT_EQ(fetch.result, 0);
            ASSERT_TRUE(page_holds(fetch.page.data(), kShort + 4 * (first + i))) << i;
        }
    }
    void put_all(const std::vector<SlotId>& slots) {
        for (const SlotId slot : slots) area_->put(slot);
        settle();
        EXPECT_EQ(area_->bytes_packed(), 0u);
        EXPECT_EQ(area_->slots_used(), 0u);
    }
    /// One short page that is on its store only.
    SlotId stored() {
        const SlotId slot = add_short(1).at(0);
        area_->release_memory();
        settle();
        const SlotId last = add_pages(1, kNoise).at(0);  // in the frame that is kept for reads
        area_->kick_writes();
        settle();
        drop_clean();
        EXPECT_EQ(area_->lookup(slot), nullptr);
        area_->put(last);
        return slot;
    }
    /// The page leaves as it is on its store.
    void leave_unchanged(SlotId slot) {
        const FrameRun frame = area_->take_frames(1);
        ASSERT_EQ(frame.count, 1u);
        fill_page(pool_->address(frame.first), kShort);
        ASSERT_TRUE(area_->holds(slot, frame.first));
        area_->add_unchanged(slot, frame.first);
    }
};

TEST_P(CacheTierTest, HoldsMorePagesThanThePoolHasFramesAndWritesNone) {
    const auto slots = add_short(500);
    ASSERT_EQ(slots.size(), 500u);
    settle();
    EXPECT_EQ(area_->counters().pages_packed, 500u);
    EXPECT_EQ(area_->counters().pages_written, 0u);
    EXPECT_EQ(pool_->free_frames(), pool_->frames());
    for (std::uint64_t i = 0; i < 500; ++i) {
        const std::byte* page = area_->lookup(slots[i]);
        ASSERT_NE(page, nullptr);
        ASSERT_TRUE(page_holds(page, kShort + 4 * i));
    }
    expect_right(slots);
    EXPECT_EQ(area_->counters().pages_in, 0u);
    EXPECT_EQ(area_->counters().tier_found, 500u);
    put_all(slots);
}

TEST_P(CacheTierTest, TheOldestGoOnToTheStore) {
    const auto slots = add_short(900);
    ASSERT_EQ(slots.size(), 900u);
    area_->kick_writes();
    settle();
    EXPECT_GE(area_->counters().tier_written_back, 300u);
    EXPECT_GE(area_->counters().pages_written, area_->counters().tier_written_back)
        << "some had no turn there";
    EXPECT_LE(area_->bytes_packed(), area_->counters().tier_limit);
    EXPECT_NE(area_->lookup(slots.back()), nullptr);
    drop_clean();
    EXPECT_EQ(area_->lookup(slots.front()), nullptr) << "the oldest";
    expect_right(slots);
    put_all(slots);
}

TEST_P(CacheTierTest, WhatGetsNoSmallerIsWrittenAtOnce) {
    const auto noise = add_pages(8, kNoise);  // four sizes in turn: two of them are worth it
    ASSERT_EQ(noise.size(), 8u);
    area_->kick_writes();
    settle();
    EXPECT_EQ(area_->counters().pages_written + area_->counters().pages_packed, 8u);
    EXPECT_GE(area_->counters().pages_written, 2u);
    for (std::uint64_t i = 0; i < 8; ++i) EXPECT_TRUE(fetch_now(noise[i]).page == pool_page(kNoise + i));
    put_all(noise);
}

TEST_P(CacheTierTest, WhatComesBackUnchangedIsKeptWithoutAWrite) {
    const SlotId slot = stored();
    const auto written = area_->counters().pages_written;
    leave_unchanged(slot);
    EXPECT_EQ(area_->counters().pages_packed, 1u);
    const std::byte* page = area_->lookup(slot);
    ASSERT_NE(page, nullptr);
    EXPECT_TRUE(page_holds(page, kShort));
    EXPECT_TRUE(area_->worth_keeping(slot));
    EXPECT_NE(area_->describe(slot).find("at byte"), std::string::npos);
    area_->note_back(slot);
    EXPECT_EQ(area_->bytes_packed(), 0u) << "its user has it";
    EXPECT_TRUE(fetch_now(slot).page == pool_page(kShort)) << "from where it was written to";
    leave_unchanged(slot);
    area_->put(slot);
    settle();
    EXPECT_EQ(area_->counters().pages_written, written);
    EXPECT_EQ(area_->slots_used(), 0u);
    EXPECT_EQ(area_->bytes_packed(), 0u);
}

TEST_P(CacheTierTest, IsKeptForThoseWhoHaveNoCopyYet) {
    const SlotId slot = stored();
    area_->get(slot);
    leave_unchanged(slot);
    area_->note_back(slot);
    EXPECT_NE(area_->lookup(slot), nullptr);
    area_->put(slot);
    area_->note_back(slot);
    EXPECT_EQ(area_->lookup(slot), nullptr);
    area_->put(slot);
}

TEST_P(CacheTierTest, GivesMemoryUpWhenAsked) {
    const auto slots = add_short(300);
    for (int i = 0; i < 20 && area_->bytes_packed() > 0; ++i) {
        area_->release_memory();
        settle();
    }
    EXPECT_EQ(area_->bytes_packed(), 0u);
    EXPECT_EQ(area_->counters().pages_written, 300u);
    expect_right(slots);
    put_all(slots);
}

TEST_P(CacheTierTest, ASmallStoreIsFilledByWhatPagesReallyTake) {
    // 64 blocks: 64 pages if each might take one, eight times as many once they are written.
    open_tier(512, 64 * kPageSize);
    std::vector<SlotId> slots;
    for (int tries = 0; slots.size() < 200 && tries < 500; ++tries) {
        const auto more = add_short(200 - slots.size(), slots.size());
        slots.insert(slots.end(), more.begin(), more.end());
        settle();
    }
    EXPECT_EQ(slots.size(), 200u);
    expect_right(slots);
    put_all(slots);
}

TEST_P(CacheTierTest, WhatAStoreHasLostIsWrittenAgain) {
    const auto slots = add_short(300);
    area_->release_memory();
    area_->kick_writes();
    run_loop();
    while (store_->complete_one(Kind::kWrite)) run_loop();
    std::mt19937 random(1);
    store_->restart(random);
    settle();
    drop_clean();
    expect_right(slots);
    put_all(slots);
}

INSTANTIATE_TEST_SUITE_P(Sealed, CacheTierTest, ::testing::Bool());

}  // namespace
}  // namespace farswap::test
