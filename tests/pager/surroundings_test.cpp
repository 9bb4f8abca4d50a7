// What lies around a page is filled in where it is wanted before long, and only there; it is tried again and
// again.
#include "pager/surroundings.h"

#include <gtest/gtest.h>

#include <random>

namespace farswap {
namespace {

constexpr std::uint64_t kAroundBytes = Surroundings::kPages * std::uint64_t{kPageSize};

/// Faults in blocks at random. Of a block whose other pages are not filled in, as many are asked for as are
/// wanted.
class SurroundingsTest : public ::testing::Test {
  protected:
    /// Of how many of so many blocks the other pages were filled in.
    int touch(int blocks, std::uint32_t wanted) {
        int filled_in = 0;
        for (; blocks > 0; blocks--) {
            const std::uint64_t block = random_() % (1u << 20) * kAroundBytes;
            if (asks_for(block, 0xfffe)) {
                filled_in++;
                continue;
            }
            for (std::uint32_t i = 1; i <= wanted; i++) asks_for(block + i * kPageSize, 0);
        }
        return filled_in;
    }
    bool asks_for(std::uint64_t address, std::uint32_t others) {
        surroundings_.asked_for(address, now_);
        return surroundings_.is_worth_it(address, others, now_);
    }

    Surroundings surroundings_;
    std::mt19937 random_{1};
    std::uint8_t now_ = 0;
};

TEST_F(SurroundingsTest, NothingIsFilledInBeforeItIsKnownToBeWanted) {
    EXPECT_EQ(touch(1'000, 2), 0);
}

TEST_F(SurroundingsTest, WhatIsWantedIsFilledInButForTheTrials) {
    touch(20'000, 14);
    EXPECT_GT(touch(10'000, 14), 9'600);
}

TEST_F(SurroundingsTest, ItIsSeenWhenThatChanges) {
    touch(20'000, 14);
    touch(40'000, 1);
    EXPECT_EQ(touch(1'000, 1), 0);
    touch(40'000, 12);
    EXPECT_GT(touch(1'000, 12), 900);
}

TEST_F(SurroundingsTest, WhatIsAskedForLateWasNotWorthIt) {
    for (int i = 0; i < 20'000; i++) {
        const std::uint64_t block = random_() % (1u << 20) * kAroundBytes;
        EXPECT_FALSE(asks_for(block, 0xfffe));
        now_ = static_cast<std::uint8_t>(now_ + 4);  // half of what is inside has left
        for (std::uint32_t other = 1; other < Surroundings::kPages; other++)
            surroundings_.asked_for(block + other * kPageSize, now_);
    }
}

TEST_F(SurroundingsTest, APageThatIsAskedForTwiceCountsOnce) {
    for (int i = 0; i < 40'000; i++) {
        const std::uint64_t block = random_() % (1u << 20) * kAroundBytes;
        EXPECT_FALSE(asks_for(block, 0xfffe));
        for (int times = 0; times < 8; times++) surroundings_.asked_for(block + kPageSize, now_);
    }
}

TEST_F(SurroundingsTest, WhereThereIsNothingAroundThereIsNothingToFillIn) {
    touch(20'000, 14);
    EXPECT_FALSE(asks_for(0, 0));
}

}  // namespace
}  // namespace farswap
