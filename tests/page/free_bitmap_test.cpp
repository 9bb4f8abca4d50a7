// The free bitmap: runs against a plain model, and threads that must never get the same frame.
#include "page/free_bitmap.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <random>
#include <thread>
#include <vector>

namespace farswap {
namespace {

struct Bitmap {
    explicit Bitmap(std::uint32_t frames)
        : words(FreeBitmap::words_for(frames)), bits(std::span(words.begin(), words.end()), frames) {
        bits.add(0, frames);
    }
    std::vector<FreeBitmap::Word> words;
    FreeBitmap bits;
};

void give_back(FreeBitmap& bits, BitRun run) {
    for (std::uint32_t i = 0; i < run.count; ++i) bits.give_back(run.first + i);
}

TEST(FreeBitmap, HandsOutAllFramesOnceWhateverTheirNumber) {
    for (const std::uint32_t frames : {1u, 2u, 63u, 64u, 65u, 127u, 128u, 1000u}) {
        Bitmap bitmap(frames);
        std::vector<bool> taken(frames);
        while (const std::uint32_t count = bitmap.bits.take_run(1).count) ASSERT_EQ(count, 1u);
        EXPECT_EQ(bitmap.bits.free_count(), 0u);
        for (std::uint32_t i = 0; i < frames; ++i) {
            EXPECT_FALSE(bitmap.bits.is_free(i));
            bitmap.bits.give_back(i);
        }
        const BitRun all = bitmap.bits.take_run(frames + 7);
        EXPECT_EQ(all.first, 0u);
        EXPECT_EQ(all.count, frames);
    }
}

TEST(FreeBitmap, ZeroTakesNothing) {
    Bitmap bitmap(64);
    EXPECT_EQ(bitmap.bits.take_run(0).count, 0u);
    EXPECT_EQ(bitmap.bits.free_count(), 64u);
}

TEST(FreeBitmap, TakesOnFromTheLastRun) {
    Bitmap bitmap(256);
    const BitRun a = bitmap.bits.take_run(10);
    const BitRun b = bitmap.bits.take_run(100);
    EXPECT_EQ(b.first, a.first + 10);
    give_back(bitmap.bits, a);
    EXPECT_EQ(bitmap.bits.take_run(3).first, b.first + 100) << "not the hole that was just made";
}

TEST(FreeBitmap, FindsTheRunAcrossThePlaceWhereTheSearchBegins) {
    Bitmap bitmap(256);
    give_back(bitmap.bits, bitmap.bits.take_run(100));
    const BitRun all = bitmap.bits.take_run(256);
    EXPECT_EQ(all.first, 0u);
    EXPECT_EQ(all.count, 256u);
}

TEST(FreeBitmap, RunsDoNotWrapAroundTheEnd) {
    Bitmap bitmap(128);
    const BitRun most = bitmap.bits.take_run(120);
    give_back(bitmap.bits, {most.first, 4});
    const BitRun run = bitmap.bits.take_run(12);  // 8 at the end, 4 at the beginning
    EXPECT_EQ(run.first, 120u);
    EXPECT_EQ(run.count, 8u);
}

/// Length of the longest free run.
std::uint32_t longest_run(const std::vector<bool>& free) {
    std::uint32_t longest = 0, open = 0;
    for (const bool is_free : free) longest = std::max(longest, open = is_free ? open + 1 : 0);
    return longest;
}

TEST(FreeBitmap, PrefersTheFullRunAndElseTheLongest) {
    std::mt19937 random(1);
    for (const std::uint32_t frames : {70u, 256u, 1000u}) {
        Bitmap bitmap(frames);
        std::vector<bool> free(frames, true);
        for (int step = 0; step < 20000; ++step) {
            // Free more than is taken, or less, in turns, so that all degrees of scatter occur.
            if (random() % 100 < (step / 2000 % 2 != 0 ? 70u : 30u)) {
                const std::uint32_t frame = static_cast<std::uint32_t>(random() % frames);
                if (free[frame]) continue;
                bitmap.bits.give_back(frame);
                free[frame] = true;
                continue;
            }
            const std::uint32_t want = 1 + static_cast<std::uint32_t>(random() % 150);
            const std::uint32_t expected = std::min(want, longest_run(free));
            const BitRun run = bitmap.bits.take_run(want);
            ASSERT_EQ(run.count, expected);
            for (std::uint32_t i = run.first; i < run.first + run.count; ++i) {
                ASSERT_TRUE(free[i]);
                free[i] = false;
            }
            ASSERT_EQ(bitmap.bits.free_count(), std::ranges::count(free, true));
        }
    }
}

TEST(FreeBitmap, SearchOfALargePoolIsBoundedButFindsTheLastFrame) {
    constexpr std::uint32_t kFrames = 4 * FreeBitmap::kSearchWordsMax * FreeBitmap::kWordBits;
    Bitmap bitmap(kFrames);
    EXPECT_EQ(bitmap.bits.take_run(kFrames).count, kFrames / 4);
    while (bitmap.bits.take_run(kFrames).count > 0) continue;
    bitmap.bits.give_back(kFrames - 1);
    const BitRun last = bitmap.bits.take_run(16);
    EXPECT_EQ(last.first, kFrames - 1);
    EXPECT_EQ(last.count, 1u);
}

TEST(FreeBitmap, NoFrameHasTwoOwners) {
    constexpr std::uint32_t kFrames = 200;
    constexpr int kThreads = 4, kSteps = 20000;
    Bitmap bitmap(kFrames);
    std::vector<int> owner(kFrames, 0);  // plain: a second owner is a race as well as a wrong value
    std::vector<std::thread> threads;
    std::atomic<int> errors{0};
    for (int id = 1; id <= kThreads; ++id) {
        threads.emplace_back([&, id] {
            std::mt19937 random(static_cast<unsigned>(id));
            for (int step = 0; step < kSteps; ++step) {
                const BitRun run = bitmap.bits.take_run(1 + static_cast<std::uint32_t>(random() % 90));
                for (std::uint32_t i = run.first; i < run.first + run.count; ++i)
                    errors += std::exchange(owner[i], id) != 0;
                for (std::uint32_t i = run.first; i < run.first + run.count; ++i)
                    errors += std::exchange(owner[i], 0) != id;
                give_back(bitmap.bits, run);
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(errors, 0);
    EXPECT_EQ(bitmap.bits.free_count(), kFrames);
    EXPECT_EQ(bitmap.bits.take_run(kFrames).count, kFrames);
}

}  // namespace
}  // namespace farswap
