// Formats recordings; see recording_json.h.
#include "cli/recording_json.h"

#include <nlohmann/json.hpp>

#include "farswap/request.h"

namespace farswap::cli {

namespace {

constexpr double kMicrosecond_ns = 1e3, kSecond_ns = 1e9;

double divided(std::uint64_t value, double by) {
    return static_cast<double>(value) / by;
}

nlohmann::json latency_json(const LatencyHistogram& times) {
    auto buckets = nlohmann::json::array();
    for (std::size_t i = 0; i < LatencyHistogram::kBuckets; ++i)
        if (times.in_bucket(i) > 0)
            buckets.push_back({divided(LatencyHistogram::end_of(i), kMicrosecond_ns), times.in_bucket(i)});
    return {{"count", times.count()},
            {"sum_us", divided(times.sum(), kMicrosecond_ns)},
            {"p50_us", divided(times.quantile(0.5), kMicrosecond_ns)},
            {"p90_us", divided(times.quantile(0.9), kMicrosecond_ns)},
            {"p99_us", divided(times.quantile(0.99), kMicrosecond_ns)},
            {"p999_us", divided(times.quantile(0.999), kMicrosecond_ns)},
            {"max_us", divided(times.largest(), kMicrosecond_ns)},
            {"buckets", std::move(buckets)}};
}

/// One array, with figure(sample) of each.
template <typename Figure>
nlohmann::json column(const History& history, Figure figure) {
    auto values = nlohmann::json::array();
    for (std::size_t i = 0; i < history.size(); ++i) values.push_back(figure(history[i]));
    return values;
}

nlohmann::json quantiles(const History& history, double share) {
    auto values = nlohmann::json::array();
    for (std::size_t i = 0; i < history.size(); ++i) {
        if (history.refaults(i) > 0)
            values.push_back(divided(history.quantile(i, share), kMicrosecond_ns));
        else
            values.push_back(nullptr);
    }
    return values;
}

nlohmann::json row_json(const Regions& regions, std::size_t number) {
    const auto& row = regions.row(number);
    auto far = nlohmann::json::array(), refaults = nlohmann::json::array();
    for (std::size_t column = 0; column < regions.columns(); ++column) {
        far.push_back(regions.cell(number, column).far_pages);
        refaults.push_back(regions.cell(number, column).refaults);
    }
    return {{"address", fmt::format("{:x}", row.key * regions.region_bytes())},
            {"name", regions.name_of(row)},
            {"mapped_pages", row.mapped_pages},
            {"far_pages", std::move(far)},
            {"refaults", std::move(refaults)}};
}

}  // namespace

nlohmann::json latencies_json(const FaultLatencies& latencies) {
    nlohmann::json json{{"all", latency_json(latencies.all())},
                        {"refaults", latency_json(latencies.refaults())}};
    for (std::size_t kind = 0; kind < kFaultKinds; ++kind)
        json[kFaultKindNames[kind]] = latency_json(latencies.kinds[kind]);
    return json;
}

nlohmann::json history_json(const History& history) {
    using Sample = HistorySample;
    const auto of = [&](auto figure) { return column(history, figure); };
    nlohmann::json json{{"at_s", of([](const Sample& s) { return divided(s.at_ms, 1000); })},
                        {"ram_bytes", of([](const Sample& s) { return s.ram_bytes; })},
                        {"cap_bytes", of([](const Sample& s) { return s.cap_bytes; })},
                        {"pager_bytes", of([](const Sample& s) { return s.pager_bytes; })},
                        {"far_bytes", of([](const Sample& s) { return s.far_pages * kPageSize; })},
                        {"cache_dirty_bytes", of([](const Sample& s) { return s.dirty_frames * kPageSize; })},
                        {"cache_clean_bytes", of([](const Sample& s) { return s.clean_frames * kPageSize; })},
                        {"faults", of([](const Sample& s) { return s.faults; })},
                        {"first_touch", of([](const Sample& s) { return s.first_touches; })},
                        {"second_chance", of([](const Sample& s) { return s.second_chances; })},
                        {"cached", of([](const Sample& s) { return s.cached; })},
                        {"stored", of([](const Sample& s) { return s.stored; })},
                        {"prefetched", of([](const Sample& s) { return s.prefetched; })},
                        {"evicted_pages", of([](const Sample& s) { return s.evicted; })},
                        {"written_pages", of([](const Sample& s) { return s.written; })},
                        {"in_pages", of([](const Sample& s) { return s.read; })},
                        {"refault_p50_us", quantiles(history, 0.5)},
                        {"refault_p99_us", quantiles(history, 0.99)}};
    for (std::size_t kind = 0; kind < kFaultKinds; ++kind)
        json["waited_s"][kFaultKindNames[kind]] =
            of([kind](const Sample& s) { return divided(s.waited_ns[kind], kSecond_ns); });
    return json;
}

nlohmann::json regions_json(const Regions& regions) {
    auto ended = nlohmann::json::array(), rows = nlohmann::json::array();
    for (std::size_t column = 0; column < regions.columns(); ++column)
        ended.push_back(divided(regions.ended_ms(column), 1000));
    for (const auto number : regions.rows_by_address()) rows.push_back(row_json(regions, number));
    return {{"region_bytes", regions.region_bytes()}, {"at_s", std::move(ended)}, {"rows", std::move(rows)}};
}

}  // namespace farswap::cli
