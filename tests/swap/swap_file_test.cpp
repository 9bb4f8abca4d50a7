// The swap area on a real file, with the real event loop: more pages than frames go out and come back.
#include <chrono>
#include <cstdlib>
#include <filesystem>

#include "area_fixture.h"
#include "store/open.h"

namespace farswap::test {
namespace {

/// A directory on a disk (O_DIRECT is refused by tmpfs), removed with what is in it.
struct Scratch {
    Scratch() {
        std::string pattern = "/var/tmp/farswap-swap-test-XXXXXX";
        if (::mkdtemp(pattern.data())) path = pattern;
    }
    ~Scratch() {
        std::error_code ignored;
        if (!path.empty()) std::filesystem::remove_all(path, ignored);
    }
    std::string path;
};

TEST(SwapFile, MorePagesThanFramesGoOutAndComeBack) {
    const Scratch scratch;
    ASSERT_FALSE(scratch.path.empty());
    constexpr std::uint32_t kPages = 8192;  // 32 MiB through a pool of 4
    auto loop = io::Loop::create().value();
    auto pool = Pool::create({.frames = 1024, .lock = false}).value();
    StoreOptions options;
    options.size_default = std::uint64_t{64} << 20;
    options.job = "swap-file-test";
    Result<std::unique_ptr<Store>> store = open_store("file:" + scratch.path, options, *loop);
    ASSERT_TRUE(store) << store.error().message;
    std::vector<std::unique_ptr<Store>> stores;
    stores.push_back(std::move(*store));
    auto area = SwapArea::create(*pool, *loop, std::move(stores)).value();
    bool wake = false;
    std::string failure;
    area->frames_available = [&wake] { wake = true; };
    area->store_failed = [&failure](const Error& error) { failure = error.message; };
    const auto wait = [&](const auto& until) {
        const io::Clock::time_point end = io::Clock::now() + std::chrono::seconds(60);
        while (failure.empty() && io::Clock::now() < end) {
            if (until()) return true;
            loop->run_once(std::chrono::seconds(1));
        }
        return false;
    };

    std::vector<SlotId> slots;
    while (slots.size() < kPages) {
        FrameRun frames = area->take_frames(64);
        if (frames.count == 0) {
            ASSERT_TRUE(wait([&wake] { return std::exchange(wake, false); })) << failure;
            continue;
        }
        for (std::uint32_t i = 0; i < frames.count; ++i)
            fill_page(pool->address(frames.first + i), slots.size() + i);
        while (frames.count > 0) {
            const Result<SlotRun> run = area->add(frames);
            ASSERT_TRUE(run) << run.error().message;
            for (std::uint32_t i = 0; i < run->count; ++i) slots.push_back(run->first + i);
            frames = {frames.first + run->count, frames.count - run->count};
        }
    }
    std::mt19937 random(5);
    for (std::uint32_t i = 0; i < 2000; ++i) {
        const std::uint32_t at = static_cast<std::uint32_t>(random() % slots.size());
        Fetch fetch(slots[at], {slots[at & ~31u], 32});
        area->fetch(fetch);
        ASSERT_TRUE(wait([&fetch] { return fetch.answers > 0; })) << failure;
        ASSERT_EQ(fetch.result, 0) << area->describe(slots[at]);
        ASSERT_TRUE(page_holds(fetch.page.data(), at));
    }
    EXPECT_GT(area->counters().pages_in, 2000u);
    area->shutdown(std::chrono::seconds(10));
    area.reset();
    EXPECT_EQ(pool->pinned_frames(), 0u);
    EXPECT_EQ(pool->free_frames(), pool->frames());
}

}  // namespace
}  // namespace farswap::test
