// The swap area on a mirror: a page that is wrong on one half comes from the other, and neither half gets
// wrong by what it writes late.
#include "area_fixture.h"
#include "store/mirror_store.h"

namespace farswap::test {
namespace {

class SwapMirrorTest : public ::testing::Test {
  protected:
    SwapMirrorTest() { open({}); }
    ~SwapMirrorTest() override { close(); }

    void open(const MemoryStoreOptions& store, const MirrorOptions& mirror = {}) {
        close();
        std::array<std::unique_ptr<MemoryStore>, 2> halves;
        for (std::size_t i = 0; i < 2; ++i) {
            MemoryStoreOptions its = store;
            its.name = i == 0 ? "a" : "b";
            halves[i] = std::make_unique<MemoryStore>(its);
            halves_[i] = halves[i].get();
        }
        std::vector<std::unique_ptr<Store>> stores;
        stores.push_back(
            MirrorStore::create(std::move(halves[0]), std::move(halves[1]), *loop_, mirror).value());
        SwapAreaOptions options;
        options.retry_delay = options.idle_flush_delay = std::chrono::milliseconds(0);
        options.read_frames_min = 1;
        options.held_percent = 0;
        area_ = SwapArea::create(*pool_, *loop_, std::move(stores), options).value();
    }
    void close() {
        if (!area_) return;
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
        area_.reset();
    }

    void settle() {
        // Bounded: what is due at once may come due again at once.
        for (int quiet = 0, rounds = 0; quiet < 3 && rounds < 100; ++rounds) {
            for (int i = 0; i < 50 && loop_->run_once(std::chrono::nanoseconds(0)) > 0;) ++i;
            ++quiet;
            for (MemoryStore* half : halves_) {
                if (half->pending() > 0) quiet = 0;
                half->complete_all();
            }
        }
    }
    /// Pages with contents `value`, `value` + 1, ... on the store only.
    std::vector<SlotId> store_pages(std::uint32_t count, std::uint64_t value = 0) {
        std::vector<SlotId> slots;
        while (slots.size() < count) {
            const FrameRun frames = area_->take_frames(count - static_cast<std::uint32_t>(slots.size()));
            for (std::uint32_t i = 0; i < frames.count; ++i)
                fill_page(pool_->address(frames.first + i), value + slots.size() + i);
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

/// Pages are written while a is away, and freed; what b has in their place is copied to a, whose connection
/// breaks just then: the copies are acknowledged when they have been sent again, but the first ones are still
/// on their way. Other pages come to lie there, and are safe; then a executes the first copies, and b is
/// lost.
TEST_F(SwapMirrorTest, ACopyOfAFreePageDoesNotComeOverThePageThatGetsItsPlace) {
    constexpr std::uint32_t kPages = 24;
    const std::uint32_t places = pool_->frames() + 2 * kPages;  // slots for all frames: none stays cached
    MirrorOptions mirror;
    mirror.write_attempts_max = 1;
    mirror.retry_delay = mirror.probe_delay = mirror.probe_delay_max = std::chrono::milliseconds(0);
    mirror.resync.rest_max = mirror.resync.retry_delay = std::chrono::milliseconds(0);
    mirror.resync.copy_pages = places;
    open({.capacity = places * kPageSize, .reserved = places * kPageSize}, mirror);
    MemoryStore &a = *halves_[0], &b = *halves_[1];

    a.set_down(EROFS);
    std::vector<SlotId> old = store_pages(places / 2, 1000);
    for (const SlotId slot : store_pages(places / 2, 2000)) old.push_back(slot);
    for (const SlotId slot : old) area_->put(slot);
    a.set_down(0);
    const auto copying = [&] { return a.written.back().second == places * kPageSize; };
    for (int i = 0; i < 1000 && !copying(); ++i) {
        for (int k = 0; k < 10 && loop_->run_once(std::chrono::nanoseconds(0)) > 0;) ++k;
        if (copying()) break;
        for (MemoryStore* half : halves_)
            if (half->pending() > 0) half->complete(0);
    }
    ASSERT_TRUE(copying());
    a.break_connection();
    ASSERT_EQ(a.late(), places) << "wherever pages are put now, older bytes may come";
    settle();

    const std::vector<SlotId> slots = store_pages(kPages, 200);
    a.execute_all_late();
    for (int i = 0; i < 20; ++i) settle();  // what a lacks is copied to it
    b.set_down(EIO);
    const std::uint64_t reads_before = a.counters().reads;
    for (std::uint32_t i = 0; i < kPages; ++i) {
        Fetch fetch(slots[i]);
        area_->fetch(fetch);
        settle();
        ASSERT_EQ(fetch.result, 0) << "page " << i << ": " << strerrordesc_np(-fetch.result);
        EXPECT_TRUE(page_holds(fetch.page.data(), 200 + i));
    }
    EXPECT_GE(a.counters().reads - reads_before, kPages - 1) << "one may be in the frame for reads";
    b.set_down(0);
}

}  // namespace
}  // namespace farswap::test
