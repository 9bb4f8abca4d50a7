// Frames come in long runs although pages come back one by one, and belong to one party at a time.
#include <algorithm>
#include <numeric>
#include <random>

#include "area_fixture.h"

namespace farswap::test {
namespace {

class FrameSupplyTest : public AreaTest {
  protected:
    FrameSupplyTest() { open({.frames = 2048}); }

    /// Fills the pool with clean pages of 4096 slots.
    std::vector<SlotId> fill_pool() {
        std::vector<SlotId> slots;
        while (slots.size() < 4096) {
            const std::vector<SlotId> more = add_pages(64, slots.size());
            slots.insert(slots.end(), more.begin(), more.end());
            settle();
        }
        area_->kick_writes();
        settle();
        return slots;
    }

    double mean_run(int runs) {
        std::uint32_t frames = 0;
        std::vector<FrameRun> taken;
        for (int i = 0; i < runs; ++i) {
            const FrameRun run = area_->take_frames(64);
            frames += run.count;
            taken.push_back(run);
        }
        for (const FrameRun& run : taken) area_->return_frames(run);
        return static_cast<double>(frames) / runs;
    }

    std::mt19937 random_{3};
};

TEST_F(FrameSupplyTest, ScatteredFreeFramesDoNotShortenRuns) {
    std::vector<SlotId> slots = fill_pool();
    std::ranges::shuffle(slots, random_);
    for (std::size_t i = 0; i < 1024; ++i) area_->put(slots[i]);  // about 500 of them are in the cache
    ASSERT_GT(pool_->free_frames(), 300u);
    EXPECT_EQ(mean_run(8), 64);
}

TEST_F(FrameSupplyTest, ScatteredUseDoesNotShortenRuns) {
    std::vector<SlotId> slots = fill_pool();
    for (int i = 0; i < 1000; ++i) area_->lookup(slots[random_() % slots.size()]);
    EXPECT_EQ(mean_run(8), 64);
}

TEST_F(FrameSupplyTest, ReadsKeepTheirWidthForALongTime) {
    const std::vector<SlotId> slots = fill_pool();
    store_->lengths.clear();
    for (int i = 0; i < 2000; ++i) {
        const std::uint32_t at = static_cast<std::uint32_t>(random_() % (slots.size() - 64));
        if (area_->lookup(slots[at])) continue;
        EXPECT_EQ(fetch_now(slots[at], {slots[at], 1 + static_cast<std::uint32_t>(random_() % 64)}).result,
                  0);
    }
    // A window ends at the first page that is here already; half of the pages are.
    const std::uint64_t pages = std::reduce(store_->lengths.begin(), store_->lengths.end(), std::uint64_t{0});
    EXPECT_GT(pages, 8 * store_->lengths.size());
}

TEST_F(FrameSupplyTest, FramesBelongToOnePartyAtATime) {
    const FrameRun run = area_->take_frames(2);
    EXPECT_DEATH(area_->return_frames({run.first + run.count, 1}), "lent");
    EXPECT_DEATH(static_cast<void>(area_->add({run.first + run.count, 1})), "lent");
    area_->return_frames(run);
    EXPECT_DEATH(area_->return_frames(run), "lent");
}

}  // namespace
}  // namespace farswap::test
