// What farswap bench has measured, as people read it and as JSON. Knows figures, not how they came about.
#pragma once

#include <chrono>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

namespace farswap::cli {

/// How long single operations took.
struct Latency {
    double p50_us = 0, p99_us = 0;
};

/// Of at least one; the order of `took` is lost.
Latency latency_of(std::vector<std::chrono::nanoseconds>& took);

/// Transfers of one kind.
struct BenchCell {
    bool write = false;
    std::uint32_t size = 0;   ///< bytes
    std::uint32_t depth = 0;  ///< transfers under way at a time
    std::uint64_t transfers = 0;
    double seconds =
        0;  ///< from the first submitted to the last completed; of writes with the flush behind them
    Latency latency{};
    double per_second() const { return static_cast<double>(transfers) / seconds; }
    double bytes_per_second() const { return per_second() * size; }
};

struct BenchReport {
    std::string store;            ///< its name, without secrets
    std::uint64_t bytes = 0;      ///< the part of it that was used
    std::optional<Latency> null{};  ///< of calls that ask for nothing
    std::vector<BenchCell> cells{};
};

/// A table for each direction: a row a size, a column a depth; bandwidth, and below it the latency.
std::string bench_table(const BenchReport& report);
nlohmann::json bench_json(const BenchReport& report);

}  // namespace farswap::cli
