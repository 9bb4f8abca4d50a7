// Runs of slots: contiguity, exhaustion, reuse, fragmentation, against a plain bitmap.
#include "swap/slot_allocator.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace farswap {
namespace {

SlotAllocator make(std::uint32_t capacity, std::uint32_t limit) {
    SlotAllocator slots = SlotAllocator::create(capacity).value();
    slots.extend(limit);
    return slots;
}

TEST(SlotAllocator, HandsOutNothingBeforeSpaceIsReserved) {
    SlotAllocator slots = SlotAllocator::create(1000).value();
    EXPECT_EQ(slots.allocate(1).count, 0u);
    slots.extend(10);
    EXPECT_EQ(slots.free(), 10u);
    const SlotAllocator::Run run = slots.allocate(64);
    EXPECT_EQ(run.first, 0u);
    EXPECT_EQ(run.count, 10u);
    EXPECT_EQ(slots.allocate(1).count, 0u);
    slots.extend(20);
    EXPECT_EQ(slots.allocate(64).first, 10u);
}

TEST(SlotAllocator, SuccessiveRunsAreNeighbours) {
    SlotAllocator slots = make(1000, 1000);
    EXPECT_EQ(slots.allocate(16).first, 0u);
    EXPECT_EQ(slots.allocate(64).first, 16u);
    EXPECT_EQ(slots.allocate(7).first, 80u);
    EXPECT_EQ(slots.allocate(0).count, 0u);
}

TEST(SlotAllocator, GoesOnWhereATrimmedRunEnds) {
    SlotAllocator slots = SlotAllocator::create(100).value();
    slots.extend(100);
    const SlotAllocator::Run run = slots.allocate(64);
    slots.trim(run, 10);
    EXPECT_EQ(slots.used(), 10u);
    EXPECT_FALSE(slots.is_allocated(run.first + 10));
    EXPECT_EQ(slots.allocate(5).first, run.first + 10);
}

TEST(SlotAllocator, PassesOverHolesAndComesBackToThem) {
    SlotAllocator slots = make(256, 256);
    ASSERT_EQ(slots.allocate(192).count, 192u);
    for (std::uint32_t slot = 0; slot < 192; slot += 2) slots.release(slot);
    EXPECT_EQ(slots.allocate(64).first, 192u) << "the free run of 64 is better than the holes";
    EXPECT_EQ(slots.allocate(64).count, 1u);
    for (std::uint32_t slot = 1; slot < 192; slot += 2) slots.release(slot);
    EXPECT_EQ(slots.allocate(64).count, 64u) << "holes have grown together";
}

TEST(SlotAllocator, ARunSpansWordsOfTheBitmap) {
    SlotAllocator slots = make(1024, 1000);
    ASSERT_EQ(slots.allocate(37).count, 37u);
    const SlotAllocator::Run run = slots.allocate(512);
    EXPECT_EQ(run.first, 37u);
    EXPECT_EQ(run.count, 512u);
    EXPECT_EQ(slots.allocate(1000).count, 1000u - 549u);
    EXPECT_EQ(slots.free(), 0u);
}

TEST(SlotAllocator, ASecondReleaseAborts) {
    SlotAllocator slots = make(64, 64);
    slots.allocate(1);
    slots.release(0);
    EXPECT_DEATH(slots.release(0), "is_allocated");
    EXPECT_DEATH(slots.release(64), "limit");
}

TEST(SlotAllocator, AgreesWithAPlainBitmap) {
    std::mt19937 random(7);
    constexpr std::uint32_t kCapacity = 5000;
    SlotAllocator slots = SlotAllocator::create(kCapacity).value();
    std::vector<bool> used(kCapacity);
    std::vector<std::uint32_t> held;
    std::uint32_t limit = 0;
    for (int step = 0; step < 200'000; ++step) {
        if (random() % 1000 == 0)
            slots.extend(limit = std::min<std::uint32_t>(kCapacity, limit + random() % 700));
        if (random() % 2) {
            const std::uint32_t want = 1 + random() % 64;
            const SlotAllocator::Run run = slots.allocate(want);
            ASSERT_LE(run.count, want);
            ASSERT_EQ(run.count == 0, held.size() == limit) << "fails exactly when nothing is free";
            for (std::uint32_t slot = run.first; slot < run.first + run.count; ++slot) {
                ASSERT_LT(slot, limit);
                ASSERT_FALSE(used[slot]);
                used[slot] = true;
                held.push_back(slot);
            }
        } else {
            for (int i = 0; i < 32 && !held.empty(); ++i) {
                std::swap(held[random() % held.size()], held.back());
                slots.release(held.back());
                used[held.back()] = false;
                held.pop_back();
            }
        }
        ASSERT_EQ(slots.used(), held.size());
        ASSERT_EQ(slots.free(), limit - held.size());
    }
}

/// Keeps a store three quarters full for a long time: pages leave in runs of 64, and `together` neighbours at
/// a time, chosen at random, are released. Returns the mean length of the runs that were handed out.
double mean_run_when_released_by(std::uint32_t together) {
    std::mt19937 random(11);
    constexpr std::uint32_t kCapacity = 1 << 16;
    SlotAllocator slots = make(kCapacity, kCapacity);
    std::uint64_t runs = 0, pages = 0;
    while (pages < 8 * kCapacity) {
        for (std::uint32_t want = 64; want > 0; ++runs) want -= slots.allocate(want).count;
        pages += 64;
        while (slots.used() > kCapacity * 3 / 4) {
            const auto first = static_cast<std::uint32_t>(random() % (kCapacity / together)) * together;
            for (std::uint32_t slot = first; slot < first + together; ++slot)
                if (slots.is_allocated(slot)) slots.release(slot);
        }
    }
    return static_cast<double>(pages) / static_cast<double>(runs);
}

TEST(SlotAllocator, RunsStayLongWhenPagesComeBackInRuns) {
    EXPECT_GT(mean_run_when_released_by(64), 60);
    EXPECT_GT(mean_run_when_released_by(16), 24);
}

/// The worst there is: single pages come back at random. Holes of a random quarter are 1.3 slots long on
/// average.
TEST(SlotAllocator, SinglePagesThatComeBackAtRandomDoNotShredRunsCompletely) {
    EXPECT_GT(mean_run_when_released_by(1), 2.2);
}

TEST(SlotAllocator, SearchesAFullTerabyteQuickly) {
    constexpr std::uint32_t kCapacity = (std::uint64_t{1} << 40) / 4096;
    SlotAllocator slots = make(kCapacity, kCapacity);
    ASSERT_EQ(slots.allocate(kCapacity).count, kCapacity);
    slots.release(kCapacity - 1);
    slots.release(12345);
    EXPECT_EQ(slots.allocate(64).count, 1u);
    EXPECT_EQ(slots.allocate(64).count, 1u);
    EXPECT_EQ(slots.free(), 0u);
}

}  // namespace
}  // namespace farswap
