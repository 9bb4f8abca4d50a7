// See bench_report.h.
#include "cli/bench_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "cli/sizes.h"

namespace farswap::cli {
namespace {

constexpr int kColumn = 13;

std::string microseconds(double us) {
    if (us < 1000) return fmt::format("{:.0f} us", us);
    return us < 100'000 ? fmt::format("{:.1f} ms", us / 1000) : fmt::format("{:.0f} ms", us / 1000);
}

std::string mib_per_second(double bytes) {
    const double mib = bytes / (1 << 20);
    return mib < 10 ? fmt::format("{:.1f} MiB/s", mib) : fmt::format("{:.0f} MiB/s", mib);
}

/// A row of a table: what stands in front, then a text for each depth.
template <typename Text>
std::string row(const std::string& front, const std::vector<const BenchCell*>& cells, Text text) {
    std::string line = fmt::format("{:>10}", front);
    for (const BenchCell* cell : cells) line += fmt::format("{:>{}}", text(*cell), kColumn);
    return line + "\n";
}

std::string direction_table(const BenchReport& report, bool write) {
    std::set<std::uint32_t> sizes;
    for (const BenchCell& cell : report.cells)
        if (cell.write == write) sizes.insert(cell.size);
    std::string text;
    for (const std::uint32_t size : sizes) {
        std::vector<const BenchCell*> cells;
        for (const BenchCell& cell : report.cells)
            if (cell.write == write && cell.size == size) cells.push_back(&cell);
        if (text.empty()) {
            text = write ? "\nwrites, the flush behind them included\n" : "\nreads at random places\n";
            text += row("depth", cells, [](const BenchCell& cell) { return fmt::to_string(cell.depth); });
        }
        text += row(format_size(size), cells,
                    [](const BenchCell& cell) { return mib_per_second(cell.bytes_per_second()); });
        text += row("median", cells, [](const BenchCell& cell) { return microseconds(cell.latency.p50_us); });
        text += row("99%", cells, [](const BenchCell& cell) { return microseconds(cell.latency.p99_us); });
    }
    return text;
}

nlohmann::json latency_json(const Latency& latency) {
    return {{"p50_us", latency.p50_us}, {"p99_us", latency.p99_us}};
}

}  // namespace

Latency latency_of(std::vector<std::chrono::nanoseconds>& took) {
    const auto at = [&](std::size_t percent) {
        const auto place = took.begin() + static_cast<std::ptrdiff_t>((took.size() - 1) * percent / 100);
        std::nth_element(took.begin(), place, took.end());
        return std::chrono::duration<double, std::micro>(*place).count();
    };
    return {.p50_us = at(50), .p99_us = at(99)};
}

std::string bench_table(const BenchReport& report) {
    std::string text = fmt::format("{}, {} of it\n", report.store, format_size(report.bytes));
    if (report.null)
        text += fmt::format("calls that ask for nothing: median {}, 99% {}\n",
                            microseconds(report.null->p50_us), microseconds(report.null->p99_us));
    return text + direction_table(report, false) + direction_table(report, true);
}

nlohmann::json bench_json(const BenchReport& report) {
    nlohmann::json json = {{"store", report.store}, {"bytes", report.bytes}};
    json["null"] = report.null ? latency_json(*report.null) : nlohmann::json();
    for (const BenchCell& cell : report.cells) {
        nlohmann::json one = latency_json(cell.latency);
        one["operation"] = cell.write ? "write" : "read";
        one["size_bytes"] = cell.size;
        one["depth"] = cell.depth;
        one["transfers"] = cell.transfers;
        one["seconds"] = cell.seconds;
        one["bytes_per_second"] = cell.bytes_per_second();
        json["cells"].push_back(std::move(one));
    }
    return json;
}

}  // namespace farswap::cli
