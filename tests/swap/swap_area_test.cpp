// The swap area on a store that does what it is told: write-out, flushes, read-in, counts, frames and slots.
#include "swap/swap_area.h"

#include "area_fixture.h"
#include "swap/page_records.h"

namespace farswap::test {
namespace {

using SwapAreaTest = AreaTest;

TEST_F(SwapAreaTest, AnAddedPageIsInTheCacheAtOnce) {
    const std::vector<SlotId> slots = add_pages(3, 100);
    ASSERT_EQ(slots.size(), 3u);
    for (std::uint32_t i = 0; i < 3; ++i) {
        EXPECT_EQ(area_->count(slots[i]), 1u);
        ASSERT_NE(area_->lookup(slots[i]), nullptr);
        EXPECT_TRUE(page_holds(area_->lookup(slots[i]), 100 + i));
    }
    EXPECT_EQ(area_->slots_used(), 3u);
    EXPECT_EQ(area_->counters().frames_dirty, 3u);
    EXPECT_EQ(store_->pending(), 0u) << "a run that may still grow waits";
}

TEST_F(SwapAreaTest, FullRunsAreWrittenAtOnceAndShortOnesWhenKicked) {
    add_pages(64, 0);
    EXPECT_EQ(store_->lengths, std::vector<std::uint32_t>({64}));
    add_pages(16, 64);
    add_pages(16, 80);
    EXPECT_EQ(store_->pending(), 1u);
    area_->kick_writes();
    EXPECT_EQ(store_->lengths, std::vector<std::uint32_t>({64, 32})) << "neighbours leave in one write";
}

TEST_F(SwapAreaTest, KicksThatFollowEachOtherDoNotPutTheFlushOff) {
    SwapAreaOptions options = quick();
    options.idle_flush_delay = std::chrono::milliseconds(20);
    open({.area = options});
    add_pages(8, 0);
    area_->kick_writes();
    ASSERT_TRUE(store_->complete_one(Kind::kWrite));
    const auto limit = io::Clock::now() + std::chrono::seconds(10);
    while (store_->pending(Kind::kFlush) == 0 && io::Clock::now() < limit) {
        area_->kick_writes();
        loop_->run_once(std::chrono::milliseconds(1));
    }
    EXPECT_EQ(store_->pending(Kind::kFlush), 1u);
}

TEST_F(SwapAreaTest, ARunThatCannotGrowIsWritten) {
    SwapAreaOptions options = quick();
    options.seal = false;  // pages leave from their own frames, which must be neighbours
    open({.area = options});
    const std::vector<SlotId> slots = add_pages(8, 0);
    area_->put(slots[3]);  // a hole: what lies before it is complete
    add_pages(1, 8);
    EXPECT_EQ(store_->lengths, std::vector<std::uint32_t>({3}));
}

TEST_F(SwapAreaTest, AFrameIsReusedOnlyAfterTheFlushThatCoversItsWrite) {
    open({.frames = 65});
    const std::vector<SlotId> slots = add_pages(64, 0);
    ASSERT_EQ(slots.size(), 64u);
    EXPECT_EQ(area_->take_frames(1).count, 0u) << "all dirty";
    ASSERT_TRUE(store_->complete_one(Kind::kWrite));
    EXPECT_EQ(area_->take_frames(1).count, 0u) << "written, not flushed";
    EXPECT_EQ(store_->pending(Kind::kFlush), 1u) << "somebody waits: flushed at once";
    EXPECT_EQ(wakes_, 0);
    ASSERT_TRUE(store_->complete_one(Kind::kFlush));
    EXPECT_EQ(wakes_, 1);
    EXPECT_EQ(area_->counters().frames_clean, 64u);
    const FrameRun run = area_->take_frames(64);
    EXPECT_GE(run.count, 63u);
    area_->return_frames(run);
}

TEST_F(SwapAreaTest, AFlushDoesNotCoverWritesThatEndedAfterItsStart) {
    open({.frames = 129});
    add_pages(128, 0);
    ASSERT_EQ(store_->pending(Kind::kWrite), 2u);
    EXPECT_EQ(area_->take_frames(1).count, 0u);
    ASSERT_TRUE(store_->complete_one(Kind::kWrite));
    ASSERT_EQ(store_->pending(Kind::kFlush), 1u);
    ASSERT_TRUE(store_->complete_one(Kind::kWrite));
    ASSERT_TRUE(store_->complete_one(Kind::kFlush));
    EXPECT_EQ(area_->counters().frames_clean, 64u);
    EXPECT_EQ(area_->counters().frames_dirty, 64u);
}

TEST_F(SwapAreaTest, AStoredPageComesBack) {
    const std::vector<SlotId> slots = add_pages(10, 7);
    push_out();
    EXPECT_EQ(area_->lookup(slots[4]), nullptr);
    const Fetch fetch = fetch_now(slots[4]);
    EXPECT_EQ(fetch.result, 0);
    EXPECT_TRUE(page_holds(fetch.page.data(), 11));
    EXPECT_EQ(area_->counters().pages_in, 1u);
    EXPECT_NE(area_->lookup(slots[4]), nullptr);
}

TEST_F(SwapAreaTest, AWindowIsReadInOneRequestAndNeighboursAreThereAtReady) {
    const std::vector<SlotId> slots = add_pages(32, 0);
    push_out();
    store_->lengths.clear();
    Fetch fetch(slots[5], {slots[0], 32});
    int found = 0;
    fetch.then = [&] {
        for (std::uint32_t i = 0; i < 32; ++i) {
            const std::byte* data = area_->lookup(slots[i]);
            found += data && page_holds(data, i);
        }
    };
    area_->fetch(fetch);
    settle();
    EXPECT_EQ(store_->lengths, std::vector<std::uint32_t>({32}));
    EXPECT_EQ(found, 32);
}

TEST_F(SwapAreaTest, AWindowEndsAtPagesThatAreHereOrGone) {
    const std::vector<SlotId> slots = add_pages(32, 0);
    push_out();
    fetch_now(slots[3]);
    area_->put(slots[20]);
    store_->lengths.clear();
    fetch_now(slots[10], {slots[0], 32});
    EXPECT_EQ(store_->lengths, std::vector<std::uint32_t>({16})) << "slots 4 to 19";
}

TEST_F(SwapAreaTest, AWindowEndsAtTheStoresBorder) {
    const std::uint64_t small = 64 * kPageSize;
    open({.stores = {{.name = "a", .capacity = small, .reserved = small}, {.name = "b"}}});
    const std::vector<SlotId> slots = add_pages(127, 0);
    push_out();
    const Fetch fetch = fetch_now(slots[60], {slots[50], 30});
    EXPECT_EQ(fetch.result, 0);
    EXPECT_EQ(area_->counters().pages_in, 14u);
}

TEST_F(SwapAreaTest, APrefetchReadsWhatIsOutsideOfItsRun) {
    const std::vector<SlotId> slots = add_pages(32, 0);
    push_out();
    fetch_now(slots[10]);
    store_->lengths.clear();
    area_->prefetch({slots[4], 16});
    settle();
    EXPECT_EQ(store_->lengths, std::vector<std::uint32_t>({6, 9})) << "slots 4 to 9 and 11 to 19";
    for (std::uint32_t i = 4; i < 20; ++i) {
        const std::byte* data = area_->lookup(slots[i]);
        ASSERT_NE(data, nullptr) << i;
        EXPECT_TRUE(page_holds(data, i));
    }
    EXPECT_EQ(area_->lookup(slots[20]), nullptr);
}

TEST_F(SwapAreaTest, AFetchJoinsAPrefetch) {
    const std::vector<SlotId> slots = add_pages(16, 0);
    push_out();
    area_->prefetch({slots[0], 16});
    Fetch fetch(slots[7]);
    area_->fetch(fetch);
    EXPECT_EQ(store_->pending(Kind::kRead), 1u);
    settle();
    EXPECT_EQ(fetch.result, 0);
    EXPECT_TRUE(page_holds(fetch.page.data(), 7));
}

TEST_F(SwapAreaTest, APrefetchLeavesFramesForThoseWhoWait) {
    SwapAreaOptions options = quick();
    open({.frames = 2 * options.read_run_max - 1, .area = options});
    const std::vector<SlotId> slots = add_pages(16, 0);
    push_out();
    area_->prefetch({slots[0], 16});
    EXPECT_EQ(store_->pending(Kind::kRead), 0u);
    EXPECT_EQ(fetch_now(slots[3]).result, 0);
}

TEST_F(SwapAreaTest, AFailedPrefetchHarmsNobody) {
    const std::vector<SlotId> slots = add_pages(16, 0);
    push_out();
    store_->fail_next(Kind::kRead, EBADMSG);
    area_->prefetch({slots[0], 16});
    settle();
    EXPECT_TRUE(failures_.empty());
    EXPECT_EQ(fetch_now(slots[3]).result, 0);
}

TEST_F(SwapAreaTest, FetchesOfOneSlotShareARead) {
    const std::vector<SlotId> slots = add_pages(4, 0);
    push_out();
    Fetch first(slots[0], {slots[0], 4}), second(slots[0]), neighbour(slots[2]);
    area_->fetch(first);
    area_->fetch(second);
    area_->fetch(neighbour);
    EXPECT_EQ(store_->pending(Kind::kRead), 1u);
    EXPECT_EQ(first.answers, 0);
    settle();
    EXPECT_EQ(first.answers + second.answers + neighbour.answers, 3);
    EXPECT_TRUE(page_holds(neighbour.page.data(), 2));
    EXPECT_EQ(area_->counters().pages_in, 4u);
}

TEST_F(SwapAreaTest, AFetchOfACachedPageIsAnsweredFromTheLoop) {
    const std::vector<SlotId> slots = add_pages(64, 0);
    ASSERT_EQ(store_->pending(Kind::kWrite), 1u);
    Fetch fetch(slots[9]);
    area_->fetch(fetch);  // while it is being written
    EXPECT_EQ(fetch.answers, 0) << "answered inside the call";
    run_loop();
    EXPECT_EQ(fetch.answers, 1);
    EXPECT_TRUE(page_holds(fetch.page.data(), 9));
}

TEST_F(SwapAreaTest, ACancelledFetchIsNotAnswered) {
    const std::vector<SlotId> slots = add_pages(4, 0);
    push_out();
    Fetch reading(slots[0]), joined(slots[0]);
    area_->fetch(reading);
    area_->fetch(joined);
    area_->cancel_fetch(reading);
    const std::vector<SlotId> cached = add_pages(1, 50);
    Fetch hit(cached[0]);
    area_->fetch(hit);
    area_->cancel_fetch(hit);
    settle();
    EXPECT_EQ(reading.answers, 0);
    EXPECT_EQ(hit.answers, 0);
    EXPECT_EQ(joined.answers, 1);
    area_->cancel_fetch(joined);  // answered already: nothing happens
}

TEST_F(SwapAreaTest, AnAnswerMayCancelAndFreeWhatComesAfterIt) {
    const std::vector<SlotId> slots = add_pages(8, 0);
    push_out();
    Fetch first(slots[0], {slots[0], 8}), cancelled(slots[1]), freed(slots[2]), last(slots[3]);
    first.then = [&] {
        area_->cancel_fetch(cancelled);
        area_->put(slots[2]);
        area_->put(slots[0]);
        const std::vector<SlotId> next = add_pages(4, 900);  // must not land in what `ready` looks at
        EXPECT_TRUE(page_holds(first.page.data(), 0));
        for (const SlotId slot : next) area_->put(slot);
    };
    for (Fetch* fetch : {&first, &cancelled, &freed, &last}) area_->fetch(*fetch);
    settle();
    EXPECT_EQ(first.answers, 1);
    EXPECT_EQ(cancelled.answers, 0);
    EXPECT_EQ(freed.answers, 1);
    EXPECT_EQ(freed.result, -ECANCELED);
    EXPECT_TRUE(page_holds(last.page.data(), 3));
}

TEST_F(SwapAreaTest, TheAnswersDataStaysValidWhateverReadyDoes) {
    const std::vector<SlotId> slots = add_pages(1, 3);
    push_out();
    SlotFetch fetch;
    fetch.slot = slots[0];
    struct Context {
        AreaTest* test;
        SwapArea* area;
        bool valid = false;
    } context{this, area_.get()};
    fetch.owner = &context;
    fetch.ready = [](SlotFetch& self, const std::byte* data, int) {
        Context& in = *static_cast<Context*>(self.owner);
        in.area->put(self.slot);
        std::vector<FrameRun> runs;
        for (FrameRun run; (run = in.area->take_frames(64)).count > 0; runs.push_back(run)) {
        }
        in.valid = page_holds(data, 3);
        for (const FrameRun& run : runs) in.area->return_frames(run);
    };
    area_->fetch(fetch);
    settle();
    EXPECT_TRUE(context.valid);
}

TEST_F(SwapAreaTest, TheLastPutFreesSlotAndFrame) {
    const std::vector<SlotId> slots = add_pages(2, 0);
    area_->get(slots[0]);
    EXPECT_EQ(area_->count(slots[0]), 2u);
    area_->put(slots[0]);
    EXPECT_TRUE(page_holds(area_->lookup(slots[0]), 0));
    area_->put(slots[0]);
    area_->put(slots[1]);
    EXPECT_EQ(area_->slots_used(), 0u);
    EXPECT_EQ(pool_->free_frames(), pool_->frames());
    EXPECT_DEATH(area_->put(slots[0]), "count");
    EXPECT_DEATH(area_->get(slots[0]), "count");
}

TEST_F(SwapAreaTest, ASlotUnderWriteIsFreedWhenTheWriteEnds) {
    const std::vector<SlotId> slots = add_pages(64, 0);
    ASSERT_EQ(store_->pending(Kind::kWrite), 1u);
    area_->put(slots[7]);
    EXPECT_EQ(area_->slots_used(), 64u);
    settle();
    EXPECT_EQ(area_->slots_used(), 63u);
    EXPECT_EQ(area_->count(slots[7]), 0u);
}

TEST_F(SwapAreaTest, ASlotUnderReadIsFreedWhenTheReadEnds) {
    const std::vector<SlotId> slots = add_pages(4, 0);
    push_out();
    Fetch fetch(slots[0], {slots[0], 4});
    area_->fetch(fetch);
    area_->put(slots[0]);
    area_->put(slots[3]);
    EXPECT_EQ(area_->slots_used(), 4u);
    settle();
    EXPECT_EQ(fetch.result, -ECANCELED);
    EXPECT_EQ(area_->slots_used(), 2u);
    EXPECT_TRUE(page_holds(area_->lookup(slots[1]), 1));
}

TEST_F(SwapAreaTest, AFetchThatWaitsLearnsThatItsSlotIsGone) {
    const std::vector<SlotId> slots = add_pages(1, 0);
    Fetch fetch(slots[0]);
    area_->fetch(fetch);
    area_->put(slots[0]);
    add_pages(1, 5);  // may get the same slot
    settle();
    EXPECT_EQ(fetch.result, -ECANCELED);
}

TEST_F(SwapAreaTest, ReadsGoOnWhenWriteOutHasAllItsFrames) {
    open({.frames = 96});
    SwapAreaOptions options = quick();
    options.read_frames_min = 16;
    open({.frames = 96, .area = options});
    const std::vector<SlotId> stored = add_pages(20, 0);
    push_out();
    std::vector<FrameRun> taken;
    for (FrameRun run; (run = area_->take_frames(64)).count > 0; taken.push_back(run)) {
    }
    EXPECT_EQ(pool_->free_frames() + area_->counters().frames_clean, 16u);
    for (const SlotId slot : stored) EXPECT_EQ(fetch_now(slot).result, 0);
    for (const FrameRun& run : taken) area_->return_frames(run);
}

TEST_F(SwapAreaTest, AReadWithoutAFrameWaitsAndIsServedFirst) {
    SwapAreaOptions options = quick();
    open({.frames = 4, .area = options});
    const std::vector<SlotId> slots = add_pages(2, 0);
    push_out();
    std::vector<FrameRun> taken;
    for (FrameRun run; (run = area_->take_frames(1)).count > 0; taken.push_back(run)) {
    }
    ASSERT_EQ(taken.size(), 3u);
    Fetch first(slots[0]), second(slots[1]);
    area_->fetch(first);
    area_->fetch(second);
    EXPECT_EQ(store_->pending(Kind::kRead), 1u) << "one frame, one read";
    area_->return_frames(taken.back());
    taken.pop_back();
    EXPECT_EQ(area_->take_frames(1).count, 0u) << "the read was first";
    run_loop();
    EXPECT_EQ(store_->pending(Kind::kRead), 2u);
    settle();
    EXPECT_EQ(first.result, 0);
    EXPECT_EQ(second.result, 0);
    for (const FrameRun& run : taken) area_->return_frames(run);
}

TEST_F(SwapAreaTest, PagesThatTheirOnlyUserHasCopiedGoFirstAndAlone) {
    open({.frames = 9});
    const std::vector<SlotId> slots = add_pages(8, 0);
    area_->kick_writes();
    settle();
    ASSERT_EQ(area_->counters().frames_clean, 8u);
    area_->get(slots[4]);
    ASSERT_NE(area_->lookup(slots[4]), nullptr);  // shared: the other user may want it
    ASSERT_NE(area_->lookup(slots[6]), nullptr);
    ASSERT_NE(area_->lookup(slots[2]), nullptr);
    const FrameRun first = area_->take_frames(1);  // the one that was free
    const FrameRun second = area_->take_frames(1);
    const FrameRun third = area_->take_frames(1);
    for (const FrameRun& run : {first, second, third}) {
        EXPECT_EQ(run.count, 1u);
        area_->return_frames(run);
    }
    for (const std::uint32_t here : {0, 1, 3, 4, 5, 7})
        EXPECT_NE(area_->lookup(slots[here]), nullptr) << here;
    for (const std::uint32_t gone : {2, 6}) EXPECT_EQ(area_->lookup(slots[gone]), nullptr) << gone;
}

TEST_F(SwapAreaTest, StoresGetEqualSharesInWholeRuns) {
    open({.stores = {{.name = "a"}, {.name = "b"}, {.name = "c"}}});
    for (int i = 0; i < 24; ++i) add_pages(16, 0);
    for (const MemoryStore* store : stores_) EXPECT_EQ(store->lengths, std::vector<std::uint32_t>({64, 64}));
}

TEST_F(SwapAreaTest, FramesComeWithASlotEachAndTheHookTellsWhenThereAreSome) {
    open({.stores = {{.capacity = 256 * kPageSize, .reserved = 64 * kPageSize}}});
    const std::vector<SlotId> slots = add_pages(80, 0);
    EXPECT_EQ(slots.size(), 64u);
    EXPECT_FALSE(area_->slots_exhausted()) << "the store can grow";
    EXPECT_EQ(store_->pending(Kind::kReserve), 1u);
    ASSERT_TRUE(store_->complete_one(Kind::kReserve));
    EXPECT_EQ(wakes_, 1);
    EXPECT_EQ(add_pages(300, 0).size(), 192u);
    EXPECT_TRUE(area_->slots_exhausted());
    area_->put(slots[0]);
    settle();
    EXPECT_FALSE(area_->slots_exhausted());
    EXPECT_EQ(add_pages(1, 0).size(), 1u);
}

TEST_F(SwapAreaTest, ShutdownEndsWhatIsInFlight) {
    const std::vector<SlotId> slots = add_pages(64, 0);
    push_out();
    add_pages(64, 0);
    Fetch reading(slots[0]), hit(add_pages(1, 0).at(0));
    area_->fetch(reading);
    area_->fetch(hit);
    close();
    EXPECT_EQ(reading.result, -ECANCELED);
    EXPECT_EQ(hit.result, -ECANCELED);
}

TEST_F(SwapAreaTest, DescribeNamesStoreAndOffset) {
    open({.stores = {{.name = "nfs://nas/export"}}});
    const std::vector<SlotId> slots = add_pages(3, 0);
    EXPECT_EQ(area_->describe(slots[2]), "slot 2 (nfs://nas/export, not written yet)");
    push_out();
    EXPECT_EQ(area_->describe(slots[2]), "slot 2 (nfs://nas/export at byte 8192)");
}

TEST_F(SwapAreaTest, StoresLargerThanAllSlotsShareThem) {
    constexpr std::uint64_t kTiB = std::uint64_t{1} << 40;
    open({.stores = {{.name = "one:", .capacity = 20 * kTiB}, {.name = "two:", .capacity = 20 * kTiB}}});
    EXPECT_EQ(area_->slots_capacity(), 4 * kTiB / kPageSize) << "2 TiB of each are used";
    EXPECT_EQ(add_pages(3, 0).size(), 3u);
}

TEST_F(SwapAreaTest, RefusesWhatCannotWork) {
    std::vector<std::unique_ptr<Store>> none;
    EXPECT_EQ(SwapArea::create(*pool_, *loop_, std::move(none)).error().code, EINVAL);
    std::vector<std::unique_ptr<Store>> stores;
    stores.push_back(std::make_unique<MemoryStore>());
    SwapAreaOptions options;
    options.read_frames_min = pool_->frames();
    EXPECT_EQ(SwapArea::create(*pool_, *loop_, std::move(stores), options).error().code, EINVAL);
}

TEST_F(SwapAreaTest, APageOfOneWordTakesNoFrameAndIsNotWritten) {
    FrameRun frames = area_->take_frames(3);
    ASSERT_EQ(frames.count, 3u);
    std::fill_n(pool_->address(frames.first), kPageSize, std::byte{0});
    fill_page(pool_->address(frames.first + 1), 5);
    std::fill_n(pool_->address(frames.first + 2), kPageSize, std::byte{0x5a});
    const SlotRun slots = area_->add(frames).value();
    ASSERT_EQ(slots.count, 3u);
    EXPECT_EQ(area_->counters().pages_filled, 2u);
    EXPECT_EQ(pool_->free_frames(), pool_->frames() - 1);
    area_->kick_writes();
    settle();
    EXPECT_EQ(store_->lengths, std::vector<std::uint32_t>({1}));
    ASSERT_NE(area_->lookup(slots.first), nullptr);
    EXPECT_EQ(fill_word(area_->lookup(slots.first)), 0u);
    const Fetch fetch = fetch_now(slots.first + 2);
    EXPECT_EQ(fetch.result, 0);
    EXPECT_EQ(fill_word(fetch.page.data()), 0x5a5a5a5a5a5a5a5au);
    for (std::uint32_t i = 0; i < 3; ++i) area_->put(slots.first + i);
    EXPECT_EQ(area_->slots_used(), 0u);
}

TEST_F(SwapAreaTest, FramesOfPagesOfOneWordServeAReadThatWaitsForThem) {
    open({.frames = 65});
    const std::vector<SlotId> far = add_pages(2, 3);
    push_out();
    const FrameRun frames = area_->take_frames(64);
    ASSERT_EQ(frames.count, 64u);
    Fetch first(far[0]), second(far[1]);
    area_->fetch(first);  // with the last frame
    area_->fetch(second);
    run_loop();
    ASSERT_EQ(store_->pending(Kind::kRead), 1u);
    for (std::uint32_t i = 0; i < frames.count; ++i)
        std::fill_n(pool_->address(frames.first + i), kPageSize, std::byte{0});
    ASSERT_TRUE(area_->add(frames).has_value());
    run_loop();
    EXPECT_EQ(store_->pending(Kind::kRead), 2u) << "it need not wait for the first one";
    settle();
    EXPECT_TRUE(page_holds(second.page.data(), 4));
}

TEST_F(SwapAreaTest, APageThatIsItsSlotsContentIsKnownWhereverThatIs) {
    const std::vector<SlotId> slots = add_pages(2, 40);
    const FrameRun frames = area_->take_frames(2);
    ASSERT_EQ(frames.count, 2u);
    fill_page(pool_->address(frames.first), 40);
    fill_page(pool_->address(frames.first + 1), 40);
    pool_->address(frames.first + 1)[4095] ^= std::byte{1};
    const auto check = [&](const char* where) {
        EXPECT_TRUE(area_->holds(slots[0], frames.first)) << where;
        EXPECT_FALSE(area_->holds(slots[0], frames.first + 1)) << where;
        EXPECT_FALSE(area_->holds(slots[1], frames.first)) << where;
    };
    check("dirty");
    EXPECT_FALSE(area_->worth_keeping(slots[0])) << "it would be written for nothing";
    area_->kick_writes();
    check("being written");
    settle();
    check("clean");
    EXPECT_TRUE(area_->worth_keeping(slots[0]));
    drop_clean();
    check("stored");
    EXPECT_TRUE(area_->worth_keeping(slots[0]));
    area_->return_frames(frames);
}

TEST_F(SwapAreaTest, SlotsAreAskedBackBeforeTheStoreIsFull) {
    const std::uint64_t small = 256 * kPageSize;
    open({.stores = {{.name = "a", .capacity = small, .reserved = small}}});
    const std::vector<SlotId> slots = add_pages(250, 0);
    ASSERT_EQ(slots.size(), 250u);
    EXPECT_EQ(area_->slots_short(), 0u);
    const std::vector<SlotId> last = add_pages(4, 250);
    EXPECT_EQ(area_->slots_short(), 3u) << "2 are left of 5";
    area_->put(last[0]);
    EXPECT_EQ(area_->slots_short(), 2u);
}

TEST_F(SwapAreaTest, PagesLeaveInTheClearWhereThatIsAskedFor) {
    SwapAreaOptions options = quick();
    options.seal = false;
    open({.area = options});
    const std::vector<SlotId> slots = add_pages(4, 9);
    push_out();
    EXPECT_TRUE(store_->holds_bytes(pool_page(10)));
    EXPECT_TRUE(page_holds(fetch_now(slots[1]).page.data(), 10));
    store_->corrupt(2 * kPageSize);
    EXPECT_EQ(fetch_now(slots[2]).result, -EILSEQ);
}

TEST_F(SwapAreaTest, NothingOfAPageIsOnTheStore) {
    add_pages(4, 9);
    push_out();
    EXPECT_FALSE(store_->holds_bytes(pool_page(10)));
}

TEST_F(SwapAreaTest, ARecordThatIsWrittenAfterALossIsTheSame) {
    add_pages(4, 9);
    area_->kick_writes();
    ASSERT_TRUE(store_->complete_one(Kind::kWrite));
    const auto before = store_->bytes_at(2 * kPageSize);
    std::mt19937 random(1);
    store_->restart(random);
    settle();
    EXPECT_GT(store_->counters().writes, 4u);
    EXPECT_EQ(store_->bytes_at(2 * kPageSize), before) << "a write of the first time may still come late";
}

TEST_F(SwapAreaTest, WhatIsUnderWayIsCounted) {
    const auto is = [this](SwapArea::UnderWay wanted) {
        const auto found = area_->under_way();
        return found.writes == wanted.writes && found.pages_uncommitted == wanted.pages_uncommitted &&
               found.flushes == wanted.flushes && found.reads == wanted.reads;
    };
    EXPECT_TRUE(is({}));
    const auto slots = add_pages(64, 0);
    EXPECT_TRUE(is({.writes = 1}));
    store_->complete_all();
    EXPECT_TRUE(is({.pages_uncommitted = 64}));
    run_loop();
    EXPECT_TRUE(is({.pages_uncommitted = 64, .flushes = 1}));
    store_->complete_all();
    EXPECT_TRUE(is({}));
    drop_clean();
    Fetch fetch(slots[0]);
    area_->fetch(fetch);
    EXPECT_TRUE(is({.reads = 1}));
    settle();
    EXPECT_TRUE(is({}));
}

}  // namespace
}  // namespace farswap::test
