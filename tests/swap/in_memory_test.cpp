// A swap area whose pages stay in memory: what compresses is kept, what does not is refused, nothing is
// written.
#include <gtest/gtest.h>

#include <random>

#include "area_fixture.h"
#include "store/no_store.h"

namespace farswap::test {
namespace {

/// Sealed in memory, or in the clear.
class InMemoryTest : public AreaTest, public ::testing::WithParamInterface<bool> {
  protected:
    void open_in_memory(std::uint64_t limit) {
        close();
        stores_.clear();
        loop_ = io::Loop::create().value();
        pool_ = Pool::create({.frames = 64, .lock = false, .huge_pages = false}).value();
        std::vector<std::unique_ptr<Store>> stores;
        stores.push_back(make_no_store(8 * limit));
        SwapAreaOptions options = quick();
        options.compression = Compression::kLz4;
        options.keep_in_memory = limit;
        options.seal_memory = GetParam();
        area_ = SwapArea::create(*pool_, *loop_, std::move(stores), options).value();
        area_->frames_available = [this] { ++wakes_; };
        wakes_ = 0;
    }
    /// One page of random bytes in a frame.
    FrameRun noise() {
        const FrameRun frame = area_->take_frames(1);
        std::mt19937_64 random(5);
        for (std::uint64_t i = 0; i < kPageSize / 8; ++i) {
            const std::uint64_t word = random();
            std::memcpy(pool_->address(frame.first) + i * 8, &word, 8);
        }
        return frame;
    }
};

// Values whose pages fill_page() makes a good deal shorter.
constexpr std::uint64_t kCompressible = 3;

TEST_P(InMemoryTest, HoldsMorePagesThanThePoolHasFrames) {
    open_in_memory(1u << 20);
    std::vector<SlotId> slots;
    for (std::uint64_t i = 0; i < 500; ++i) {
        const auto one = add_pages(1, kCompressible + 4 * i);
        ASSERT_EQ(one.size(), 1u);
        slots.push_back(one[0]);
    }
    const auto counters = area_->counters();
    EXPECT_EQ(counters.pages_packed, 500u);
    EXPECT_EQ(counters.bytes_packed, 500u * 512) << "160 bytes each, in units";
    EXPECT_EQ(counters.pages_written, 0u);
    EXPECT_EQ(pool_->free_frames(), pool_->frames());
    for (std::uint64_t i = 0; i < 500; ++i) {
        const std::byte* page = area_->lookup(slots[i]);
        ASSERT_NE(page, nullptr);
        ASSERT_TRUE(page_holds(page, kCompressible + 4 * i));
        EXPECT_FALSE(area_->worth_keeping(slots[i])) << "a copy inside would take memory twice";
    }
    EXPECT_TRUE(fetch_now(slots[77]).page == pool_page(kCompressible + 4 * 77));
    for (const SlotId slot : slots) area_->put(slot);
    EXPECT_EQ(area_->counters().bytes_packed, 0u);
    EXPECT_EQ(area_->slots_used(), 0u);
}

TEST_P(InMemoryTest, NeighboursStayValidTogether) {
    open_in_memory(1u << 20);
    const auto slots = add_pages(1, kCompressible);
    const auto next = add_pages(1, kCompressible + 4);
    ASSERT_EQ(next[0], slots[0] + 1);
    const std::byte* first = area_->lookup(slots[0]);
    EXPECT_EQ(area_->lookup(next[0]), first + kPageSize);
    EXPECT_TRUE(page_holds(first, kCompressible));
    area_->put(slots[0]);
    area_->put(next[0]);
}

TEST_P(InMemoryTest, RefusesWhatGetsNoSmallerUnlessItMust) {
    open_in_memory(1u << 20);
    const FrameRun frame = noise();
    const std::vector<std::byte> content(pool_->address(frame.first),
                                         pool_->address(frame.first) + kPageSize);
    const auto refused = area_->add(frame);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, EFBIG);
    const auto taken = area_->add(frame, true);
    ASSERT_TRUE(taken);
    EXPECT_TRUE(fetch_now(taken->first).page == content);
    area_->put(taken->first);
    EXPECT_EQ(area_->counters().bytes_packed, 0u);
}

TEST_P(InMemoryTest, IsFullAtItsLimitAndWakesWhoWaits) {
    open_in_memory(8 * kPageSize);
    std::vector<SlotId> slots;
    for (std::uint64_t i = 0; i < 200; ++i) {
        const auto one = add_pages(1, kCompressible + 4 * i);
        if (one.empty()) break;
        slots.push_back(one[0]);
    }
    // Each page that is asked for might get no smaller.
    EXPECT_EQ(slots.size(), 57u);
    EXPECT_TRUE(area_->slots_exhausted());
    EXPECT_EQ(area_->slots_capacity(), 8u);
    for (int i = 0; i < 8; ++i) {
        area_->put(slots.back());
        slots.pop_back();
    }
    run_loop();
    EXPECT_GE(wakes_, 1);
    EXPECT_FALSE(area_->slots_exhausted());
    EXPECT_EQ(add_pages(1, kCompressible).size(), 1u);
}

INSTANTIATE_TEST_SUITE_P(Sealed, InMemoryTest, ::testing::Bool());

}  // namespace
}  // namespace farswap::test
