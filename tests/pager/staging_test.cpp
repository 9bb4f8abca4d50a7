// The staging ring: wrap-around, taking in pieces, and that nothing with a page in it is given back.
#include "pager/staging.h"

#include <gtest/gtest.h>

#include <deque>
#include <random>

namespace farswap {
namespace {

Staging ring(std::uint32_t size) {
    Staging staging;
    staging.reset(size);
    return staging;
}

TEST(Staging, IsEmptyBeforeAndAfterReset) {
    Staging staging;
    EXPECT_EQ(staging.head(), 0u);
    EXPECT_EQ(staging.free_in_one_piece(), 0u);
    staging.reset(8);
    EXPECT_EQ(staging.free(), 8u);
    EXPECT_EQ(staging.free_in_one_piece(), 8u);
    staging.fill(staging.take(1), 4096);
    staging.reset(4);
    EXPECT_EQ(staging.free(), 4u);
    EXPECT_EQ(staging.live(), 0u);
    EXPECT_EQ(staging.address(0), 0u);
}

TEST(Staging, WrapsAndOffersItsSpaceInPieces) {
    Staging staging = ring(8);
    EXPECT_EQ(staging.take(6), 0u);
    staging.release(4);
    // Free: 6, 7 and, behind the end, 0-3. Used: 4, 5.
    EXPECT_EQ(staging.free(), 6u);
    EXPECT_EQ(staging.free_in_one_piece(), 2u);
    EXPECT_EQ(staging.take(2), 6u);
    EXPECT_EQ(staging.head(), 0u);
    EXPECT_EQ(staging.used_in_one_piece(), 4u);
    EXPECT_EQ(staging.free_in_one_piece(), 4u);
    EXPECT_EQ(staging.take(4), 0u);
    EXPECT_EQ(staging.free(), 0u);
    EXPECT_EQ(staging.free_in_one_piece(), 0u);
    EXPECT_EQ(staging.head(), staging.tail());
    EXPECT_EQ(staging.used_in_one_piece(), 4u) << "a full ring is not an empty one";
    staging.release(8);
    EXPECT_EQ(staging.used(), 0u);
    EXPECT_EQ(staging.tail(), 4u);
}

TEST(Staging, KeepsTheAddressOfAPageUntilItIsVacated) {
    Staging staging = ring(4);
    const std::uint32_t first = staging.take(2);
    staging.fill(first, 0x1000);
    EXPECT_EQ(staging.live(), 1u);
    staging.relocate(first, 0x9000);
    EXPECT_EQ(staging.address(first), 0x9000u);
    EXPECT_EQ(staging.address(first + 1), 0u);
    staging.vacate(first);
    EXPECT_EQ(staging.live(), 0u);
    EXPECT_EQ(staging.address(first), 0u);
    EXPECT_EQ(staging.used(), 2u) << "its memory has not been zapped yet";
}

TEST(StagingDeathTest, RefusesWhatWouldLoseAPage) {
    Staging staging = ring(4);
    staging.fill(staging.take(2) + 1, 0x1000);
    EXPECT_DEATH(staging.take(3), "staging") << "more than is free";
    EXPECT_DEATH(staging.fill(1, 0x2000), "staging") << "over another page";
    EXPECT_DEATH(staging.vacate(0), "staging") << "nothing is there";
    EXPECT_DEATH(staging.relocate(0, 0x2000), "staging");
    EXPECT_DEATH(staging.release(2), "staging") << "the second entry has a page";
    EXPECT_DEATH(staging.release(3), "staging") << "more than is used";
    staging.release(1);
    EXPECT_EQ(staging.tail(), 1u);
}

TEST(Staging, AgreesWithAQueue) {
    std::mt19937 random(11);
    Staging staging = ring(13);
    std::deque<std::pair<std::uint32_t, std::uint64_t>> queue;  // index, address or 0
    std::uint64_t next_address = 4096;
    for (int step = 0; step < 50'000; step++) {
        switch (random() % 3) {
            case 0: {
                const std::uint32_t piece = staging.free_in_one_piece();
                const std::uint32_t count = piece == 0 ? 0 : static_cast<std::uint32_t>(random()) % piece + 1;
                const std::uint32_t first = staging.take(count);
                for (std::uint32_t i = first; i < first + count; i++) {
                    ASSERT_LT(i, 13u);
                    const bool filled = random() % 4 != 0;  // a MOVE takes only a part of what was asked
                    if (filled) staging.fill(i, next_address);
                    queue.emplace_back(i, filled ? next_address : 0);
                    next_address += 4096;
                }
                break;
            }
            case 1:
                if (queue.empty()) break;
                if (auto& entry = queue[random() % queue.size()]; entry.second != 0) {
                    ASSERT_EQ(staging.address(entry.first), entry.second);
                    staging.vacate(entry.first);
                    entry.second = 0;
                }
                break;
            default: {
                std::uint32_t vacant = 0;
                while (!queue.empty() && queue.front().second == 0) {
                    queue.pop_front();
                    vacant++;
                }
                staging.release(vacant);
            }
        }
        ASSERT_EQ(staging.used(), queue.size());
        if (!queue.empty()) {
            ASSERT_EQ(staging.tail(), queue.front().first);
        }
    }
}

}  // namespace
}  // namespace farswap
