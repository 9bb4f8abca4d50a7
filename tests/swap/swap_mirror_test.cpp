// The swap area on a mirror: a page that is wrong on one half comes from the other.
#include "area_fixture.h"
#include "store/mirror_store.h"

namespace farswap::test {
namespace {

class SwapMirrorTest : public ::testing::Test {
  protected:
    SwapMirrorTest() {
        std::array<std::unique_ptr<MemoryStore>, 2> halves;
        for (std::size_t i = 0; i < 2; ++i) {
            halves[i] = std::make_unique<MemoryStore>(MemoryStoreOptions{.name = i == 0 ? "a" : "b"});
            halves_[i] = halves[i].get();
        }
        std::vector<std::unique_ptr<Store>> stores;
        stores.push_back(MirrorStore::create(std::move(halves[0]), std::move(halves[1]), *loop_).value());
        SwapAreaOptions options;
        options.retry_delay = options.idle_flush_delay = std::chrono::milliseconds(0);
        options.read_frames_min = 1;
        options.held_percent = 0;
        area_ = SwapArea::create(*pool_, *loop_, std::move(stores), options).value();
    }
    ~SwapMirrorTest() override {
        io::Timer pump{.fire =
                           [](io::Timer& timer) {
                               auto& self = *static_cast<SwapMirrorTest*>(timer.owner);
                               for (MemoryStore* half : self.halves_) half->complete_all();
                               self.loop_->arm(timer, io::Clock::now());
                           },
                       .owner = this};
        loop_->arm(pump, io::Clock::now());
        area_->shutdown(std::chrono::seconds(10));
        loop_->cancel(pump);
    }

    void settle() {
        for (int quiet = 0; quiet < 3;) {
            while (loop_->run_once(std::chrono::nanoseconds(0)) > 0) {
            }
            ++quiet;
            for (MemoryStore* half : halves_) {
                if (half->pending() > 0) quiet = 0;
                half->complete_all();
            }
        }
    }
    /// Pages with contents 0, 1, ... on the store only.
    std::vector<SlotId> store_pages(std::uint32_t count) {
        std::vector<SlotId> slots;
        while (slots.size() < count) {
            const FrameRun frames = area_->take_frames(count - static_cast<std::uint32_t>(slots.size()));
            for (std::uint32_t i = 0; i < frames.count; ++i)
                fill_page(pool_->address(frames.first + i), slots.size() + i);
            const SlotRun run = area_->add(frames).value();
            for (std::uint32_t i = 0; i < run.count; ++i) slots.push_back(run.first + i);
        }
        area_->kick_writes();
        settle();
        std::vector<FrameRun> taken;
        for (;;) {
            taken.push_back(area_->take_frames(64));
            if (taken.back().count == 0) break;
        }
        for (const FrameRun& run : taken)
            if (run.count > 0) area_->return_frames(run);
        settle();
        return slots;
    }

    std::unique_ptr<io::Loop> loop_ = io::Loop::create().value();
    std::unique_ptr<Pool> pool_ = Pool::create({.frames = 128, .lock = false, .huge_pages = false}).value();
    std::array<MemoryStore*, 2> halves_{};
    std::unique_ptr<SwapArea> area_;
    int asked_twice_ = 0;
};

TEST_F(SwapMirrorTest, AChangedPageComesFromTheOtherHalf) {
    const std::vector<SlotId> slots = store_pages(8);
    halves_[0]->corrupt(2 * kPageSize + 9);
    halves_[1]->corrupt(5 * kPageSize + 9);  // no half alone has all that is right
    for (int round = 0; round < 4; ++round) {
        Fetch two(slots[2], {slots[0], 8}), five(slots[5], {slots[0], 8});
        area_->fetch(two);
        area_->fetch(five);
        settle();
        ASSERT_EQ(two.result, 0);
        ASSERT_EQ(five.result, 0);
        EXPECT_TRUE(page_holds(two.page.data(), 2));
        EXPECT_TRUE(page_holds(five.page.data(), 5));
        store_pages(64);  // what is cached goes
    }
}

TEST_F(SwapMirrorTest, APageThatIsReadAloneIsAskedForAgainElsewhere) {
    const std::vector<SlotId> slots = store_pages(8);
    halves_[0]->corrupt(2 * kPageSize);
    // Reads take turns: some begin with the half that is wrong, whichever it is.
    for (int round = 0; round < 8; ++round) {
        const std::uint64_t before = halves_[0]->counters().reads + halves_[1]->counters().reads;
        Fetch alone(slots[2]);
        area_->fetch(alone);
        settle();
        ASSERT_EQ(alone.result, 0) << "round " << round;
        EXPECT_TRUE(page_holds(alone.page.data(), 2));
        asked_twice_ += halves_[0]->counters().reads + halves_[1]->counters().reads - before == 2;
        store_pages(64);  // what is cached goes
        if (round % 2 == 0) {
            Fetch other(slots[3]);  // so that the turns do not stay in step with the rounds
            area_->fetch(other);
            settle();
        }
    }
    EXPECT_GT(asked_twice_, 0) << "no read began with the half that is wrong";
}

TEST_F(SwapMirrorTest, WhatIsWrongOnBothIsRefused) {
    const std::vector<SlotId> slots = store_pages(4);
    for (MemoryStore* half : halves_) half->corrupt(1 * kPageSize);
    Fetch bad(slots[1], {slots[0], 4}), good(slots[2], {slots[0], 4});
    area_->fetch(bad);
    area_->fetch(good);
    settle();
    EXPECT_EQ(bad.result, -EILSEQ);
    EXPECT_TRUE(page_holds(good.page.data(), 2));
}

}  // namespace
}  // namespace farswap::test
