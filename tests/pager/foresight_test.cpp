// Neighbours are brought in where they are wanted, and no more where they are not; it is tried again and
// again.
#include "pager/foresight.h"

#include <gtest/gtest.h>

#include "farswap/request.h"

namespace farswap {
namespace {

constexpr std::uint64_t page_at(std::uint64_t number) {
    return number * kPageSize;
}

/// Walks of eight pages at a time. What is not brought in is asked for page by page, as far as it is wanted.
class ForesightTest : public ::testing::Test {
  protected:
    /// How many of so many walks had their neighbours brought in.
    int walk(int walks, std::uint64_t wanted) {
        int brought_in = 0;
        for (; walks > 0; walks--, at_ += 100) {
            if (asks_for(at_)) {
                brought_in++;
                continue;
            }
            for (std::uint64_t i = 1; i <= wanted; i++) asks_for(at_ + i);
        }
        return brought_in;
    }

    Foresight foresight_;

  private:
    bool asks_for(std::uint64_t number) {
        foresight_.asked_for(page_at(number));
        return foresight_.is_worth_it(page_at(number + 1), page_at(number + 8), 7);
    }
    std::uint64_t at_ = 0;
};

TEST_F(ForesightTest, WhatIsWantedIsBroughtIn) {
    EXPECT_GT(walk(10'000, 7), 9'600);
}

TEST_F(ForesightTest, WhatIsNotWantedIsBroughtInNoMore) {
    walk(1'000, 1);
    EXPECT_EQ(walk(10'000, 1), 0);
}

TEST_F(ForesightTest, ItIsSeenWhenThatChanges) {
    walk(2'000, 0);
    walk(1'000, 6);
    EXPECT_GT(walk(1'000, 6), 900);
    walk(1'000, 0);
    EXPECT_EQ(walk(1'000, 0), 0);
}

TEST_F(ForesightTest, OfATrialNothingIsBroughtInByItsOwnFaults) {
    while (foresight_.is_worth_it(page_at(1), page_at(8), 7)) foresight_.asked_for(0);
    for (std::uint64_t i = 1; i < 8; i++) {
        foresight_.asked_for(page_at(i));
        EXPECT_FALSE(foresight_.is_worth_it(page_at(i + 1), page_at(i + 8), 7)) << i;
    }
    foresight_.asked_for(page_at(8));
    EXPECT_TRUE(foresight_.is_worth_it(page_at(9), page_at(16), 7));
}

TEST_F(ForesightTest, WithoutNeighboursNothingIsTried) {
    for (int i = 0; i < 1'000; i++) EXPECT_TRUE(foresight_.is_worth_it(0, 0, 0));
}

}  // namespace
}  // namespace farswap
