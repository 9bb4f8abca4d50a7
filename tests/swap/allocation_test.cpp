// After its creation an area allocates nothing: every call of the fault path and of the write-out path, and
// what their completions do, is made while allocations of this thread end the program.
#include <vector>

#include "allocation_counter.h"
#include "area_fixture.h"
#include "base/assert.h"
#include "base/log.h"

namespace farswap::test {
namespace {

class SwapAllocationTest : public AreaTest, public ::testing::WithParamInterface<int> {
  protected:
    static constexpr std::uint32_t kPages = 512;  // twice the pool

    SwapAllocationTest() {
        SwapAreaOptions options = quick();
        options.seal = GetParam() > 0;
        if (GetParam() == 2) {
            options.compression = Compression::kLz4;
            options.cache_tier = kPages * kPageSize;
        }
        open({.frames = 256, .area = options});
        slots_.reserve(kPages + 64);
        store_->written.reserve(1 << 16);
        // What does not belong to the area: its user's hooks, and the store's lists.
        area_->frames_available = [this] { ++wakes_; };
        store_->lengths.reserve(1 << 16);
    }

    /// Every `filled_every`th page is one word, the others differ.
    void add(std::uint32_t count, std::uint64_t value, std::uint32_t filled_every) {
        for (std::uint32_t have = 0; have < count;) {
            FrameRun frames = area_->take_frames(std::min(64u, count - have));
            if (frames.count == 0) settle();
            for (std::uint32_t i = 0; i < frames.count; ++i) {
                std::byte* page = pool_->address(frames.first + i);
                fill_page(page, value + have + i);
                if ((have + i) % filled_every == 0) std::memset(page, 0, kPageSize);
            }
            while (frames.count > 0) {
                const Result<SlotRun> run = area_->add(frames);
                FARSWAP_ASSERT(run);
                for (std::uint32_t i = 0; i < run->count; ++i) slots_.push_back(run->first + i);
                have += run->count;
                frames = {frames.first + run->count, frames.count - run->count};
            }
        }
        area_->kick_writes();
        settle();
    }

    void put_all() {
        for (const SlotId slot : slots_) area_->put(slot);
        slots_.clear();
        settle();
    }

    /// As drop_clean(), without a list.
    void drop_all_clean() {
        std::array<FrameRun, 256> taken;
        std::size_t runs = 0;
        for (FrameRun run; (run = area_->take_frames(64)).count > 0;) taken[runs++] = run;
        while (runs > 0) area_->return_frames(taken[--runs]);
        run_loop();
    }

    struct Answers : SlotFetch {
        int answers = 0;
        int result = 1;
    };
    void fetch(Answers& fetch, SlotId slot, SlotRun window = {}) {
        fetch = {};
        fetch.slot = slot;
        fetch.window = window;
        fetch.ready = [](SlotFetch& self, const std::byte*, int error) {
            ++static_cast<Answers&>(self).answers;
            static_cast<Answers&>(self).result = error;
        };
        area_->fetch(fetch);
    }

    std::vector<SlotId> slots_;
};

/// Plain, sealed, and sealed with a cache tier.
INSTANTIATE_TEST_SUITE_P(Sealed, SwapAllocationTest, ::testing::Range(0, 3));

TEST_P(SwapAllocationTest, PagesLeaveAndAreGivenUp) {
    const AllocationTrap trap("the way out");
    for (std::uint64_t round = 0; round < 3; ++round) {
        add(kPages, round * kPages, 8);
        for (const SlotId slot : slots_) area_->get(slot);
        for (const SlotId slot : slots_) area_->put(slot);
        put_all();
    }
    area_->return_frames(area_->take_frames(64));
}

TEST_P(SwapAllocationTest, PagesComeBack) {
    const AllocationTrap trap("the way back");
    std::array<Answers, 8> fetches;
    add(kPages, 1, 16);
    for (std::uint32_t from = 0; from + 64 <= kPages; from += 64) {
        area_->prefetch({slots_[from], 16});
        for (std::size_t i = 0; i < fetches.size(); ++i)
            fetch(fetches[i], slots_[from + i * 7], {slots_[from], 64});
        area_->cancel_fetch(fetches[3]);
        settle();
        for (std::size_t i = 0; i < fetches.size(); ++i) {
            ASSERT_EQ(fetches[i].answers, i == 3 ? 0 : 1);
            if (i == 3) continue;
            ASSERT_EQ(fetches[i].result, 0);
        }
        for (std::uint32_t i = 0; i < 64; ++i) area_->lookup(slots_[from + i]);
    }
    put_all();
}

TEST_P(SwapAllocationTest, PagesThatCameBackAreComparedWithTheirSlots) {
    const AllocationTrap trap("the comparison");
    add(64, 1, 1000);
    area_->release_memory();  // of the cache tier, if there is one
    settle();
    const FrameRun frames = area_->take_frames(1);
    ASSERT_EQ(frames.count, 1u);
    fill_page(pool_->address(frames.first), 2);
    EXPECT_TRUE(area_->holds(slots_[1], frames.first));
    EXPECT_FALSE(area_->holds(slots_[2], frames.first));
    EXPECT_TRUE(area_->worth_keeping(slots_[1]));
    EXPECT_EQ(area_->slots_short(), 0u);
    area_->add_unchanged(slots_[1], frames.first);
    EXPECT_NE(area_->lookup(slots_[1]), nullptr);
    area_->note_back(slots_[1]);
    put_all();
}

/// Errors that pass, a server that forgets what it acknowledged, and pages that are given up meanwhile.
TEST_P(SwapAllocationTest, TroubleThatPasses) {
    const AllocationTrap trap("trouble that passes");
    log::set_level(log::Level::kQuiet);
    Answers answer;
    std::mt19937 random(1);
    for (std::uint64_t round = 0; round < 8; ++round) {
        store_->fail_next(Kind::kWrite, ETIMEDOUT);
        store_->fail_next(Kind::kFlush, ETIMEDOUT);
        add(kPages / 2, round * kPages, 8);
        add(kPages / 4, round * kPages + kPages / 2, 8);
        store_->restart(random);
        add(kPages / 4, round * kPages + kPages / 4 * 3, 8);
        drop_all_clean();
        store_->fail_next(Kind::kRead, EIO);
        fetch(answer, slots_[1], {slots_[0], 32});
        settle();
        ASSERT_EQ(answer.answers, 1);
        ASSERT_EQ(answer.result, 0);
        drop_all_clean();
        fetch(answer, slots_[33], {slots_[32], 16});
        area_->put(slots_[33]);
        slots_[33] = slots_.back();
        slots_.pop_back();
        settle();
        ASSERT_EQ(answer.result, -ECANCELED);
        put_all();
    }
    log::set_level(log::Level::kWarning);
}

/// The area refuses it without an allocation. (The line that it writes to standard error takes one.)
TEST_P(SwapAllocationTest, APageThatIsNotWhatWasWritten) {
    log::set_level(log::Level::kQuiet);
    const AllocationTrap trap("the refusal of a page");
    Answers answer;
    add(kPages, 1, 1000);
    while (area_->bytes_packed() > 0) {
        area_->release_memory();
        settle();
    }
    drop_all_clean();
    {
        const UncountedAllocations of_the_store;
        for (std::uint64_t page = 0; page < kPages; ++page) store_->corrupt(page * kPageSize);
    }
    fetch(answer, slots_[1]);  // the first one is one word
    settle();
    EXPECT_EQ(answer.result, -EILSEQ);
    put_all();
    log::set_level(log::Level::kWarning);
}

}  // namespace
}  // namespace farswap::test
