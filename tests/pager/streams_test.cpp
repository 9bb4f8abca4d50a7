// Walks are recognised in both directions and side by side; strides and random faults get little.
#include "pager/streams.h"

#include <gtest/gtest.h>

#include <set>

namespace farswap {
namespace {

constexpr std::uint64_t kBase = 1 << 30;
constexpr std::uint64_t stream_page(std::int64_t number) {
    return kBase + static_cast<std::uint64_t>(number * static_cast<std::int64_t>(kPageSize));
}

/// A process whose pages are all out until a walk brings them in.
class StreamsTest : public ::testing::Test {
  protected:
    /// Faults at a page and takes all that is offered. The window.
    std::uint32_t fault(std::int64_t number) {
        const Stream& stream =
            streams_.fault(stream_page(number), [&](std::uint64_t start, std::uint64_t end) {
                for (std::uint64_t at = start; at < end; at += kPageSize)
                    if (!inside_.contains(at)) return true;
                return false;
            });
        const std::int64_t window = stream.window;
        const std::int64_t last = stream.backwards ? number - (window - 1) : number + window - 1;
        for (std::int64_t i = std::min(number, last); i <= std::max(number, last); i++)
            inside_.insert(stream_page(i));
        streams_.given(stream_page(number), stream_page(std::min(number, last)),
                       stream_page(std::max(number, last) + 1));
        return static_cast<std::uint32_t>(window);
    }
    /// Walks from `first` on for `faults` faults, each at the page behind what it was given. The last window.
    std::uint32_t walk(std::int64_t first, int direction, int faults) {
        std::uint32_t window = 0;
        for (std::int64_t at = first; faults > 0; faults--) {
            window = fault(at);
            at += direction * static_cast<std::int64_t>(window);
        }
        return window;
    }

    Streams streams_;
    std::set<std::uint64_t> inside_;
};

TEST_F(StreamsTest, AWindowGrowsWithAWalkForwards) {
    EXPECT_EQ(walk(0, 1, 1), 1u);
    EXPECT_EQ(walk(1000, 1, 2), 2u);
    EXPECT_EQ(walk(2000, 1, 20), Streams::kWindowMax);
}

TEST_F(StreamsTest, AWindowGrowsWithAWalkBackwards) {
    EXPECT_EQ(walk(5000, -1, 20), Streams::kWindowMax);
}

TEST_F(StreamsTest, TwoWalksTowardsEachOtherAreTwo) {
    std::int64_t low = 0, high = 100000;
    std::uint32_t up = 0, down = 0;
    for (int i = 0; i < 12; i++) {
        up = fault(low);
        low += up;
        down = fault(high);
        high -= down;
    }
    EXPECT_EQ(up, Streams::kWindowMax);
    EXPECT_EQ(down, Streams::kWindowMax);
}

TEST_F(StreamsTest, AWalkSurvivesManyFaultsElsewhere) {
    const std::uint32_t before = walk(0, 1, 4);
    for (std::int64_t i = 0; i < 7; i++) fault(1'000'000 + i * 1000);
    EXPECT_EQ(fault(15), 2 * before) << "the walk was given 1 + 2 + 4 + 8 pages";
}

TEST_F(StreamsTest, RandomFaultsGetOnePageEach) {
    for (std::int64_t i = 0; i < 100; i++) EXPECT_EQ(fault(i * 7919 % 10007 * 100), 1u);
}

TEST_F(StreamsTest, PagesThatAreInsideDoNotBreakAWalk) {
    for (std::int64_t i = 0; i < 200; i++)
        if (i % 3 != 0) inside_.insert(stream_page(i));
    std::uint32_t window = 0;
    for (std::int64_t at = 0; at < 200; at += 3) {
        if (!inside_.contains(stream_page(at))) window = fault(at);
    }
    EXPECT_GT(window, 16u);
}

TEST_F(StreamsTest, AWalkInStridesGetsLittle) {
    std::uint32_t most = 0;
    for (std::int64_t at = 0; at < 8000; at += 8) {
        if (!inside_.contains(stream_page(at))) most = std::max(most, fault(at));
    }
    EXPECT_LE(most, 8u);
}

// What a program touches before it begins to walk may look like the first step of it.
TEST_F(StreamsTest, AWalkThatBeganWithASkipGetsAllAfterAll) {
    for (const int direction : {1, -1}) {
        const std::int64_t base = 100'000 * (2 + direction);
        fault(base);
        fault(base + 3 * direction);
        fault(base + 6 * direction);
        std::int64_t at = base + 8 * direction;
        std::uint32_t window = 0;
        for (int i = 0; i < 30; i++) {
            while (inside_.contains(stream_page(at))) at += direction;
            window = fault(at);
        }
        EXPECT_EQ(window, Streams::kWindowMax) << direction;
    }
}

TEST_F(StreamsTest, RowsGetNoMoreBeyondTheirEndsThanTheyAreLong) {
    constexpr std::int64_t kRow = 40, kRows = 100, kApart = 1000;
    for (std::int64_t row = 0; row < kRows; row++) {
        for (std::int64_t at = row * kApart; at < row * kApart + kRow; at++)
            if (!inside_.contains(stream_page(at))) fault(at);
    }
    EXPECT_LE(inside_.size(), 2 * kRow * kRows);
}

TEST_F(StreamsTest, EqualStridesAreReadAheadOf) {
    for (const std::int64_t stride : {7, -7, 40, 1000, -1000}) {
        std::int64_t at = 3'000'000;
        for (int i = 0; i < 12; i++) at += stride, fault(at);
        const Stream& stream = streams_.fault(stream_page(at + stride), [](auto, auto) { return true; });
        EXPECT_EQ(stream.depth, Streams::kDepthMax) << stride;
        EXPECT_EQ(stream.window, 1u) << stride;
        EXPECT_EQ(stream.strided_to(1), stream_page(at + 2 * stride)) << stride;
    }
}

TEST_F(StreamsTest, AStrideThatChangesIsNoneAtFirst) {
    std::int64_t at = 0;
    for (int i = 0; i < 8; i++) at += 9, fault(at);
    const Stream& stream = streams_.fault(stream_page(at + 13), [](auto, auto) { return true; });
    EXPECT_EQ(stream.depth, 0u);
}

TEST_F(StreamsTest, NeighboursAreNoStrides) {
    walk(0, 1, 10);
    const Stream& stream = streams_.fault(stream_page(1023), [](auto, auto) { return false; });
    EXPECT_EQ(stream.depth, 0u);
    for (std::int64_t i = 0; i < 100; i++) {
        const std::int64_t at = i * 7919 % 10007 * 100;
        EXPECT_EQ(streams_.fault(stream_page(at), [](auto, auto) { return true; }).depth, 0u) << "at random";
    }
}

TEST_F(StreamsTest, AFaultThatIsTriedAgainDoesNotCountTwice) {
    const auto nothing = [](std::uint64_t, std::uint64_t) { return false; };
    streams_.fault(stream_page(0), nothing);
    EXPECT_EQ(streams_.fault(stream_page(1), nothing).window, 2u);
    EXPECT_EQ(streams_.fault(stream_page(1), nothing).window, 2u);
}

}  // namespace
}  // namespace farswap
