// A swap area over memory stores, with the few steps that every test of it needs.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#include "io/loop.h"
#include "memory_store.h"
#include "page/pool.h"
#include "swap/swap_area.h"

namespace farswap::test {

/// A page whose content says which it is, at every 8th byte of its first part; the rest is zeros. Four sizes
/// of that part take turns, so that pages compress differently.
inline void fill_page(std::byte* page, std::uint64_t value) {
    constexpr std::array<std::uint64_t, 4> kWords{512, 300, 150, 20};
    for (std::uint64_t i = 0; i < kPageSize / 8; ++i) {
        const std::uint64_t word = i < kWords[value % 4] ? (value + i * 0x10001u) * 0x9e3779b97f4a7c15u : 0;
        std::memcpy(page + i * 8, &word, 8);
    }
}
inline bool page_holds(const std::byte* page, std::uint64_t value) {
    std::array<std::byte, kPageSize> expected;
    fill_page(expected.data(), value);
    return std::memcmp(page, expected.data(), kPageSize) == 0;
}

/// The bytes of such a page.
inline std::vector<std::byte> pool_page(std::uint64_t value) {
    std::vector<std::byte> page(kPageSize);
    fill_page(page.data(), value);
    return page;
}

/// A fetch that remembers its answer.
struct Fetch : SlotFetch {
    explicit Fetch(SlotId slot_in, SlotRun window_in = {}) {
        slot = slot_in;
        window = window_in;
        ready = [](SlotFetch& fetch, const std::byte* data, int error) {
            Fetch& self = static_cast<Fetch&>(fetch);
            ++self.answers;
            self.result = error;
            if (data) self.page.assign(data, data + kPageSize);
            if (self.then) self.then();
        };
    }
    int answers = 0;
    int result = 1;
    std::vector<std::byte> page;
    std::function<void()> then;
};

class AreaTest : public ::testing::Test {
  protected:
    using Kind = MemoryStore::Kind;

    struct Setup {
        std::uint32_t frames = 512;
        std::vector<MemoryStoreOptions> stores = {{}};
        SwapAreaOptions area = quick();
    };

    /// Timers at once, so that no test waits for time to pass.
    static SwapAreaOptions quick() {
        SwapAreaOptions options;
        options.retry_delay = std::chrono::milliseconds(0);
        options.idle_flush_delay = std::chrono::milliseconds(0);
        options.read_frames_min = 1;
        options.held_percent = 0;
        options.write_buffer_pages = options.writes_max * options.write_run_max;
        return options;
    }

    AreaTest() { open({}); }
    ~AreaTest() override { close(); }

    void open(const Setup& setup) {
        close();
        loop_ = io::Loop::create().value();
        pool_ = Pool::create({.frames = setup.frames, .lock = false, .huge_pages = false}).value();
        std::vector<std::unique_ptr<Store>> stores;
        stores_.clear();
        for (const MemoryStoreOptions& options : setup.stores) {
            auto store = std::make_unique<MemoryStore>(options);
            stores_.push_back(store.get());
            stores.push_back(std::move(store));
        }
        store_ = stores_.front();
        area_ = SwapArea::create(*pool_, *loop_, std::move(stores), setup.area).value();
        area_->frames_available = [this] { ++wakes_; };
        area_->store_failed = [this](const Error& error) { failures_.push_back(error); };
        wakes_ = 0;
        failures_.clear();
    }

    void close() {
        if (!area_) return;
        // Completions that a cancelled request still needs.
        io::Timer pump{.fire = pump_stores, .owner = this};
        loop_->arm(pump, io::Clock::now());
        area_->shutdown(std::chrono::seconds(10));
        loop_->cancel(pump);
        for (MemoryStore* store : stores_) EXPECT_TRUE(store->closed);
        area_.reset();
        EXPECT_EQ(pool_->pinned_frames(), 0u);
        EXPECT_EQ(pool_->free_frames(), pool_->frames()) << "frames leaked";
    }

    static void pump_stores(io::Timer& timer) {
        AreaTest& self = *static_cast<AreaTest*>(timer.owner);
        for (MemoryStore* store : self.stores_) store->complete_all();
        self.loop_->arm(timer, io::Clock::now());
    }

    void run_loop() {
        while (loop_->run_once(std::chrono::nanoseconds(0)) > 0) {
        }
    }

    /// Completes all I/O and runs the loop until nothing is left to do.
    void settle() {
        for (int round = 0; round < 1000; ++round) {
            run_loop();
            if (std::ranges::all_of(stores_, [](MemoryStore* store) { return store->pending() == 0; }))
                return;
            for (MemoryStore* store : stores_) store->complete_all();
        }
        FAIL() << "I/O goes on for ever";
    }

    /// Runs the loop, completing all I/O, until the condition holds; false after 30 s.
    [[nodiscard]] bool run_until(const std::function<bool()>& condition) {
        const auto end = io::Clock::now() + std::chrono::seconds(30);
        while (!condition() && io::Clock::now() < end) {
            for (MemoryStore* store : stores_) store->complete_all();
            loop_->run_once(std::chrono::milliseconds(10));
        }
        return condition();
    }

    /// Puts `count` pages with contents value, value + 1, ... into the cache; their slots in order.
    std::vector<SlotId> add_pages(std::uint32_t count, std::uint64_t value) {
        std::vector<SlotId> slots;
        while (slots.size() < count) {
            FrameRun frames = area_->take_frames(count - static_cast<std::uint32_t>(slots.size()));
            if (frames.count == 0) break;
            for (std::uint32_t i = 0; i < frames.count; ++i)
                fill_page(pool_->address(frames.first + i), value + slots.size() + i);
            while (frames.count > 0) {
                const Result<SlotRun> run = area_->add(frames);
                if (!run) {
                    area_->return_frames(frames);
                    return slots;
                }
                for (std::uint32_t i = 0; i < run->count; ++i) slots.push_back(run->first + i);
                frames = {frames.first + run->count, frames.count - run->count};
            }
        }
        return slots;
    }

    /// Brings all pages outside: written, flushed, their frames taken for others.
    void push_out() {
        // The frame that is kept for reads may hold the page that was added last.
        const SlotId last = add_pages(1, ~std::uint64_t{0}).at(0);
        area_->kick_writes();
        settle();
        drop_clean();
        area_->put(last);
    }

    /// Fetches the page and waits for the answer.
    Fetch fetch_now(SlotId slot, SlotRun window = {}) {
        Fetch fetch(slot, window);
        area_->fetch(fetch);
        settle();
        EXPECT_EQ(fetch.answers, 1);
        return fetch;
    }

    /// Takes all frames for a moment, so that no clean page is left.
    void drop_clean() {
        std::vector<FrameRun> taken;
        for (;;) {
            const FrameRun run = area_->take_frames(64);
            if (run.count == 0) break;
            taken.push_back(run);
        }
        for (const FrameRun& run : taken) area_->return_frames(run);
        run_loop();
    }

    std::unique_ptr<io::Loop> loop_;
    std::unique_ptr<Pool> pool_;
    std::vector<MemoryStore*> stores_;
    MemoryStore* store_ = nullptr;
    std::unique_ptr<SwapArea> area_;
    int wakes_ = 0;
    std::vector<Error> failures_;
};

}  // namespace farswap::test
