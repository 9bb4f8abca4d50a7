// Random schedules against a model that knows what every slot must hold: adds, forks, releases, fetches and
// cancels, completions in any order, server restarts, transient errors and a scarcity of frames and slots.
#include "area_fixture.h"
#include "base/log.h"
#include "seeds.h"

namespace farswap::test {
namespace {

class SwapModelTest : public AreaTest, public ::testing::WithParamInterface<unsigned> {
  protected:
    static constexpr int kSteps = 100'000;
    static constexpr std::size_t kFetches = 24;

    /// What the model knows of a slot that is in use.
    struct Live {
        SlotId slot;
        std::uint64_t value;
        std::uint32_t references;
    };

    struct ModelFetch : SlotFetch {
        SwapModelTest* test = nullptr;
        std::uint64_t value = 0;
        bool pending = false;
        bool slot_gone = false;  ///< the last reference was put while it waited
    };

    std::uint32_t below(std::size_t limit) { return static_cast<std::uint32_t>(random_() % limit); }

    void step() {
        switch (below(16)) {
            case 0:
            case 1:
                add();
                break;
            case 2:
                share();
                break;
            case 3:
            case 4:
                release();
                break;
            case 5:
            case 6:
                start_fetch();
                break;
            case 7:
                below(2) == 0 ? look_up() : compare();
                break;
            case 8:
                cancel();
                break;
            case 9:
                disturb();
                break;
            case 10:
                run_loop();
                break;
            default:
                complete_something();
                break;
        }
    }

    void add() {
        FrameRun frames = area_->take_frames(1 + below(64));
        for (std::uint32_t i = 0; i < frames.count; ++i)
            fill_page(pool_->address(frames.first + i), next_value_ + i);
        while (frames.count > 0) {
            const Result<SlotRun> run = area_->add(frames);
            if (!run) {
                area_->return_frames(frames);
                break;
            }
            for (std::uint32_t i = 0; i < run->count; ++i)
                live_.push_back({run->first + i, next_value_++, 1});
            frames = {frames.first + run->count, frames.count - run->count};
        }
        next_value_ += frames.count;
        if (below(8) == 0) area_->kick_writes();
    }

    void share() {
        if (live_.empty()) return;
        Live& live = live_[below(live_.size())];
        area_->get(live.slot);
        ++live.references;
    }

    /// Releases up to a run of neighbours in the model's order, as a process that ends does.
    void release() {
        std::size_t count = live_.size() > 300 ? 1 + below(24) : 1;
        for (std::size_t at = live_.empty() ? 0 : below(live_.size()); count > 0 && at < live_.size();
             --count) {
            Live& live = live_[at];
            ASSERT_EQ(area_->count(live.slot), live.references);
            area_->put(live.slot);
            if (--live.references > 0) {
                ++at;
                continue;
            }
            for (ModelFetch& fetch : fetches_)
                if (fetch.pending && fetch.slot == live.slot && fetch.value == live.value)
                    fetch.slot_gone = true;
            live_.erase(live_.begin() + static_cast<std::ptrdiff_t>(at));
        }
    }

    void start_fetch() {
        ModelFetch& fetch = fetches_[below(kFetches)];
        if (live_.empty() || fetch.pending) return;
        const Live& live = live_[below(live_.size())];
        if (below(4) == 0) area_->prefetch({live.slot, 1 + below(80)});
        const SlotId first = live.slot - std::min(live.slot, below(40));
        fetch = {};
        fetch.slot = live.slot;
        if (below(3) != 0) fetch.window = {first, live.slot - first + 1 + below(40)};
        fetch.test = this;
        fetch.value = live.value;
        fetch.pending = true;
        fetch.ready = [](SlotFetch& self, const std::byte* data, int error) {
            ModelFetch& answered = static_cast<ModelFetch&>(self);
            answered.test->answered(answered, data, error);
        };
        inside_fetch_ = true;
        area_->fetch(fetch);
        inside_fetch_ = false;
    }

    void answered(ModelFetch& fetch, const std::byte* data, int error) {
        ASSERT_FALSE(inside_fetch_) << "answered inside fetch()";
        ASSERT_TRUE(fetch.pending) << "answered twice, or after a cancel";
        fetch.pending = false;
        ++answers_;
        if (fetch.slot_gone && error == -ECANCELED) return;
        ASSERT_EQ(error, 0);
        ASSERT_TRUE(page_holds(data, fetch.value)) << "wrong bytes for slot " << fetch.slot;
        if (below(4) != 0) return;
        add();  // what a pager may do in there
        release();
        ASSERT_TRUE(page_holds(data, fetch.value)) << "the data changed during ready";
    }

    void look_up() {
        if (live_.empty()) return;
        const Live& live = live_[below(live_.size())];
        const std::byte* data = area_->lookup(live.slot);
        if (data) {
            ASSERT_TRUE(page_holds(data, live.value));
        }
    }

    /// A page that leaves again, changed or not.
    void compare() {
        if (live_.empty()) return;
        const Live& live = live_[below(live_.size())];
        const FrameRun frame = area_->take_frames(1);
        if (frame.count == 0) return;
        const std::uint64_t change = below(2);
        fill_page(pool_->address(frame.first), live.value + change);
        ASSERT_EQ(area_->holds(live.slot, frame.first), change == 0);
        if (change == 0 && below(2) == 0)
            area_->add_unchanged(live.slot, frame.first);
        else
            area_->return_frames(frame);
        if (area_->worth_keeping(live.slot) && below(4) == 0) area_->note_back(live.slot);
    }

    void cancel() {
        ModelFetch& fetch = fetches_[below(kFetches)];
        if (!fetch.pending || below(4) != 0) return;
        area_->cancel_fetch(fetch);
        fetch.pending = false;
    }

    void disturb() {
        MemoryStore& store = *stores_[below(stores_.size())];
        if (below(200) == 0) area_->release_memory();
        switch (below(40)) {
            case 0:
                store.restart(random_);
                break;
            case 1:
                store.fail_next(Kind::kRead, EIO, 1);
                break;
            case 2:
                store.fail_next(Kind::kWrite, ETIMEDOUT, 1);
                break;
            case 3:
                store.fail_next(Kind::kFlush, below(2) ? EIO : ETIMEDOUT, 1);
                break;
            case 4:
                store.fail_next(Kind::kReserve, EIO, 1);
                break;
            default:
                break;
        }
    }

    void complete_something() {
        MemoryStore& store = *stores_[below(stores_.size())];
        if (store.pending() > 0) store.complete(below(store.pending()));
    }

    void check_everything() {
        settle();
        for (const ModelFetch& fetch : fetches_) EXPECT_FALSE(fetch.pending) << "a fetch was never answered";
        for (const Live& live : live_) {
            const Fetch fetch = fetch_now(live.slot);
            ASSERT_EQ(fetch.result, 0) << area_->describe(live.slot);
            ASSERT_TRUE(page_holds(fetch.page.data(), live.value)) << area_->describe(live.slot);
        }
        EXPECT_TRUE(failures_.empty());
    }

    std::mt19937 random_;
    std::vector<Live> live_;
    std::array<ModelFetch, kFetches> fetches_;
    std::uint64_t next_value_ = 1;
    std::uint64_t answers_ = 0;
    bool inside_fetch_ = false;
};

TEST_P(SwapModelTest, EveryPageKeepsItsContent) {
    random_.seed(GetParam());
    log::set_level(log::Level::kQuiet);  // a line for each restart helps nobody
    SwapAreaOptions options = quick();
    options.compression = static_cast<Compression>(GetParam() % 3);
    options.seal = GetParam() % 4 != 3;
    options.seal_memory = GetParam() % 5 < 2;
    if (GetParam() % 2 == 0) options.cache_tier = 400 * kPageSize;  // with compression in four of six
    options.read_frames_min = 8;
    options.write_run_max = 16;
    options.reads_max = 6;
    options.writes_max = 3;
    options.reserve_chunk = 256 * kPageSize;
    const std::uint64_t capacity =
        (GetParam() % 5 == 0 ? 200 : 4096) * kPageSize;  // for some there is little room
    std::vector<MemoryStoreOptions> stores;
    for (unsigned i = 0; i < 1 + GetParam() % 3; ++i)
        stores.push_back(
            {.name = fmt::format("store-{}", i), .capacity = capacity, .reserved = 64 * kPageSize});
    open({.frames = 100 + 40 * (GetParam() % 4), .stores = stores, .area = options});

    for (int i = 0; i < kSteps && !HasFailure(); ++i) {
        step();
        if (i % 10'000 == 9'999) check_everything();
    }
    check_everything();
    const SwapArea::Counters counters = area_->counters();
    EXPECT_GT(answers_, 1000u);
    EXPECT_GT(counters.pages_in, 1000u) << "the schedule has not exercised the store";
    EXPECT_GT(counters.pages_written, 10'000u);

    while (!live_.empty()) release();
    log::set_level(log::Level::kWarning);
    settle();
    EXPECT_EQ(pool_->free_frames(), pool_->frames());
}

INSTANTIATE_TEST_SUITE_P(Seeds, SwapModelTest, seeds(12));

}  // namespace
}  // namespace farswap::test
