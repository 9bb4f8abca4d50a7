// What farswap bench says of its figures.
#include "cli/bench_report.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace farswap::cli {
namespace {

using testing::HasSubstr;
using testing::Not;
using namespace std::chrono_literals;

BenchReport two_cells() {
    BenchReport report{.store = "nfs://nas/swap", .bytes = 256u << 20};
    report.cells.push_back({.size = 4096,
                            .depth = 1,
                            .transfers = 5120,
                            .seconds = 2,
                            .latency = {.p50_us = 100, .p99_us = 2500}});
    report.cells.push_back({.write = true,
                            .size = 1 << 20,
                            .depth = 32,
                            .transfers = 200,
                            .seconds = 0.5,
                            .latency = {.p50_us = 250'000, .p99_us = 300'000}});
    return report;
}

TEST(BenchReport, TableHasBandwidthAndLatencyOfBothDirections) {
    BenchReport report = two_cells();
    EXPECT_THAT(bench_table(report), Not(HasSubstr("ask for nothing")));
    report.null = Latency{.p50_us = 42, .p99_us = 99};
    const std::string table = bench_table(report);
    for (const char* part : {"nfs://nas/swap, 256", "median 42 us, 99% 99 us", "10 MiB/s", "100 us", "2.5 ms",
                             "400 MiB/s", "250 ms", "reads at random", "flush behind them"})
        EXPECT_THAT(table, HasSubstr(part));
}

TEST(BenchReport, JsonHasAllFigures) {
    const nlohmann::json json = bench_json(two_cells());
    EXPECT_TRUE(json["null"].is_null());
    ASSERT_EQ(json["cells"].size(), 2u);
    EXPECT_EQ(json["cells"][0]["operation"], "read");
    EXPECT_EQ(json["cells"][1]["size_bytes"], 1 << 20);
    EXPECT_EQ(json["cells"][1]["bytes_per_second"], 400.0 * (1 << 20));
    EXPECT_EQ(json["cells"][0]["p99_us"], 2500.0);
}

TEST(BenchReport, LatencyIsOfTheMiddleAndTheEnd) {
    std::vector<std::chrono::nanoseconds> took;
    for (int i = 0; i <= 100; ++i) took.push_back((i * 37 % 101) * 1us);
    const Latency latency = latency_of(took);
    EXPECT_EQ(latency.p50_us, 50);
    EXPECT_EQ(latency.p99_us, 99);
    took = {7us};
    EXPECT_EQ(latency_of(took).p99_us, 7);
}

}  // namespace
}  // namespace farswap::cli
