// Histograms of latencies against a sorted list of the same times, and the times of faults that wait.
#include "pager/latencies.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "pager/fault_times.h"

namespace farswap {
namespace {

TEST(LatencyHistogram, QuantilesAreThoseOfASortedList) {
    std::mt19937_64 random(1);
    std::lognormal_distribution<double> micros(4, 2);
    std::vector<std::uint64_t> all;
    LatencyHistogram histogram;
    for (int i = 0; i < 20000; i++) {
        const auto time = 256 + static_cast<std::uint64_t>(micros(random) * 1000);
        all.push_back(time);
        histogram.add(time);
    }
    std::ranges::sort(all);
    for (const double share : {0.0001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 1.0}) {
        const auto rank = static_cast<std::size_t>(share * static_cast<double>(all.size()) + 0.999999) - 1;
        const std::uint64_t exact = all[rank], told = histogram.quantile(share);
        EXPECT_GE(told, exact) << share;
        EXPECT_LE(told, exact + exact / 8 + 1) << share;
    }
    EXPECT_EQ(histogram.count(), all.size());
    EXPECT_EQ(histogram.largest(), all.back());
    for (std::size_t bits = 8; bits < 37; bits++) {
        const auto below = std::ranges::lower_bound(all, std::uint64_t{1} << bits) - all.begin();
        EXPECT_EQ(histogram.below_power(bits), static_cast<std::uint64_t>(below)) << bits;
    }
}

TEST(LatencyHistogram, BucketsFollowEachOther) {
    for (std::size_t i = 0; i + 1 < LatencyHistogram::kBuckets; i++) {
        const std::uint64_t end = LatencyHistogram::end_of(i);
        EXPECT_EQ(LatencyHistogram::bucket_of(end - 1), i);
        EXPECT_EQ(LatencyHistogram::bucket_of(end), i + 1);
    }
}

TEST(LatencyHistogram, TakesTheShortestAndTheLongest) {
    LatencyHistogram histogram;
    EXPECT_EQ(histogram.quantile(0.5), 0u);
    histogram.add(0);
    histogram.add(~std::uint64_t{0} >> 1);
    EXPECT_EQ(histogram.count(), 2u);
    EXPECT_EQ(histogram.in_bucket(0), 1u);
    EXPECT_EQ(histogram.in_bucket(LatencyHistogram::kBuckets - 1), 1u);
    EXPECT_LE(histogram.quantile(0.5), 256u);
}

TEST(FaultTimes, ByWhatWasWaitedFor) {
    FaultLatencies latencies;
    FaultCost cost;
    FaultTimes times(latencies, cost);
    const auto count = [&](FaultKind kind) { return latencies[kind].count(); };
    {
        const auto timed = times.begin();
        times.served(FaultKind::kFirstTouch);
        times.served(FaultKind::kFirstTouch);  // the page was not wanted by the fault
    }
    EXPECT_EQ(count(FaultKind::kFirstTouch), 1u);
    FaultTimes::Start waiting;
    {
        const auto timed = times.begin();
        waiting = times.current();
    }
    times.served(FaultKind::kCached);
    EXPECT_EQ(count(FaultKind::kCached), 0u) << "nobody waits";
    {
        const auto timed = times.resume_read(waiting);
        times.served(FaultKind::kCached);
    }
    EXPECT_EQ(count(FaultKind::kStored), 1u);
    {
        const auto timed = times.resume(waiting);
        times.waits_for_room();
        waiting = times.current();
    }
    {
        const auto timed = times.resume_read(waiting);
        times.served(FaultKind::kCached);
    }
    EXPECT_EQ(count(FaultKind::kRoom), 1u);
    const auto unaffected = cost.without_read();
    {
        const auto timed = times.begin();
        times.served(FaultKind::kCached);
    }
    EXPECT_NE(cost.without_read(), unaffected) << "one that needed nothing but a page in memory";
    EXPECT_EQ(latencies.all().count(), 4u);
    EXPECT_EQ(latencies.refaults().count(), 3u);
}

}  // namespace
}  // namespace farswap
