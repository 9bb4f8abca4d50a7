// Ranges that a late WRITE may still reach.
#include "store/nfs_doubts.h"

#include <gtest/gtest.h>

namespace farswap::nfs {
namespace {

using namespace std::chrono_literals;

class DoubtsTest : public testing::Test {
  protected:
    static constexpr io::Clock::time_point at(std::chrono::seconds second) {
        return io::Clock::time_point(second);
    }
    Doubts doubts;
};

TEST_F(DoubtsTest, CoversExactlyWhatWasWrittenUntilItsTime) {
    doubts.add(4096, 8192, at(10s));
    EXPECT_TRUE(doubts.overlap(12287, 1, at(9s)));
    EXPECT_TRUE(doubts.overlap(0, 4097, at(9s)));
    EXPECT_FALSE(doubts.overlap(0, 4096, at(9s)));
    EXPECT_FALSE(doubts.overlap(12288, 4096, at(9s)));
    EXPECT_FALSE(doubts.overlap(4096, 8192, at(10s)));
}

TEST_F(DoubtsTest, WhatIsAddedLaterLastsLonger) {
    doubts.add(0, 4096, at(10s));
    doubts.add(4096, 4096, at(20s));
    EXPECT_FALSE(doubts.overlap(0, 4096, at(15s)));
    EXPECT_TRUE(doubts.overlap(4096, 4096, at(15s)));
    doubts.expire(at(15s));
    EXPECT_FALSE(doubts.empty());
    doubts.expire(at(20s));
    EXPECT_TRUE(doubts.empty());
}

TEST_F(DoubtsTest, MoreRangesThanThereIsRoomForAreCoveredToo) {
    for (std::uint64_t i = 0; i < 3 * Doubts::kRangesMax; ++i) doubts.add(i * 8192, 4096, at(10s));
    for (std::uint64_t i = 0; i < 3 * Doubts::kRangesMax; ++i)
        EXPECT_TRUE(doubts.overlap(i * 8192, 4096, at(9s))) << i;
    doubts.expire(at(10s));
    EXPECT_TRUE(doubts.empty());
}

TEST_F(DoubtsTest, RoomIsFreeAgainAfterItsTime) {
    for (int second = 1; second < 100; ++second) {
        for (std::uint64_t i = 0; i < Doubts::kRangesMax / 2; ++i)
            doubts.add(i * 8192, 4096, at(std::chrono::seconds(second)));
        doubts.expire(at(std::chrono::seconds(second - 1)));
        EXPECT_FALSE(doubts.overlap(4096, 4096, at(std::chrono::seconds(second - 1)))) << second;
    }
}

}  // namespace
}  // namespace farswap::nfs
