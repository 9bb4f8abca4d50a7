// How the cap is divided.
#include "cli/budget.h"
#include "base/units.h"

#include <gtest/gtest.h>

namespace farswap::cli {
namespace {

TEST(DefaultPool, IsASixteenthWithinItsBounds) {
    EXPECT_EQ(default_pool(20 * kMiB), 4 * kMiB);
    EXPECT_EQ(default_pool(256 * kMiB), 16 * kMiB);
    EXPECT_EQ(default_pool(1000 * kMiB), 62 * kMiB) << "whole MiB";
    EXPECT_EQ(default_pool(1024 * 1024 * kMiB), 256 * kMiB);
}

TEST(Budget, TakesSizesAndPercentages) {
    const auto fixed = make_budget({.bytes = 512 * kMiB}, std::nullopt, 1024 * kMiB);
    EXPECT_EQ(fixed.value().cap, 512 * kMiB);
    EXPECT_EQ(fixed.value().pool, 32 * kMiB);
    const auto part = make_budget({.percent = 25}, 8 * kMiB + 5000, 1024 * kMiB);
    EXPECT_EQ(part.value().cap, 256 * kMiB);
    EXPECT_EQ(part.value().pool, 8 * kMiB + 4096) << "whole pages";
}

TEST(Budget, RefusesWithTheLeastThatWorks) {
    EXPECT_EQ(make_budget({.bytes = 10 * kMiB}, std::nullopt, 1024 * kMiB).error().message,
              "--ram 10 MiB is too small for the pager with a pool of 4.0 MiB; the least that works is 20M");
    EXPECT_TRUE(make_budget({.bytes = 20 * kMiB}, std::nullopt, 1024 * kMiB));
    EXPECT_FALSE(make_budget({.bytes = 20 * kMiB - 1}, std::nullopt, 1024 * kMiB));
    EXPECT_FALSE(make_budget({.percent = 1}, std::nullopt, 1024 * kMiB));
    EXPECT_FALSE(make_budget({.bytes = 64 * kMiB}, 60 * kMiB, 1024 * kMiB));
    EXPECT_EQ(make_budget({.bytes = 64 * kMiB}, 4096, 1024 * kMiB).error().message,
              "--pool 4.0 KiB is too small; the least that works is 1M");
}

}  // namespace
}  // namespace farswap::cli
