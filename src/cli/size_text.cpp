// Formats an estimate; see size_text.h.
#include "cli/size_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "cli/sizes.h"

namespace farswap::cli {

namespace {

constexpr std::size_t kBarColumns = 40;
// Above what any run may say: 64 times what a process can address (2^56), and a thousand threads for thirty
// years.
constexpr std::uint64_t kCountMax = std::uint64_t{1} << 62;
constexpr double kSecondsMax = 1e12;

std::string precise_seconds(double value) {
    return fmt::format("{:.{}f} s", value, value < 9.95 ? 2 : value < 99.5 ? 1 : 0);
}

/// "1.4 times as long", "within 5% of full speed".
std::string slowdown(double times) {
    if (times <= 1.05) return "within 5% of full speed";
    return fmt::format("{:.{}f} times as long", times, times < 9.95 ? 1 : 0);
}

std::string bar(double part) {
    const auto columns = static_cast<std::size_t>(std::lround(part * static_cast<double>(kBarColumns)));
    return std::string(std::clamp<std::size_t>(columns, 1, kBarColumns), '#');
}

std::string point_line(const SizePoint& point, double longest, double full_speed) {
    return fmt::format("{:>8}  {:<{}} {:>7}  x{:.{}f}", format_size(point.cap), bar(point.seconds / longest),
                       kBarColumns, precise_seconds(point.seconds), point.seconds / full_speed,
                       point.seconds < 9.95 * full_speed ? 1 : 0);
}

/// Of bytes, pages and waits.
std::uint64_t count_in(const nlohmann::json& json) {
    // A conversion would take -1 and 1e300 as well.
    if (!json.is_number_unsigned() || json.get<std::uint64_t>() > kCountMax)
        throw std::out_of_range("no count of a run");
    return json.get<std::uint64_t>();
}

double seconds_in(const nlohmann::json& json) {
    const auto value = json.get<double>();
    if (!(value >= 0 && value <= kSecondsMax)) throw std::out_of_range("no time of a run");
    return value;
}

std::string sentence(const SizeEstimate& estimate, SizeOf what) {
    const std::string_view as_it_had = what == SizeOf::kSoFar ? "as it has now" : "as in this run";
    const SizePoint& least = estimate.curve.front();
    const double slowest = least.seconds / std::max(estimate.full_speed_s, 1e-9);
    std::string text =
        estimate.nearly_full
            ? fmt::format("with {} it runs within 5% of full speed", format_size(*estimate.nearly_full))
            : std::string("no cap below its need runs within 5% of full speed");
    if (slowest <= 2)
        return text + fmt::format("; with {}, {}, it takes {}", format_size(least.cap), as_it_had,
                                  slowest <= 1.05 ? std::string("as long") : slowdown(slowest));
    if (estimate.half && estimate.half != estimate.nearly_full)
        text += fmt::format("; with {} it takes twice as long", format_size(*estimate.half));
    else if (estimate.half)
        text += "; with less, more than twice as long";
    return text + fmt::format("; with {}, {}, {}", format_size(least.cap), as_it_had, slowdown(slowest));
}

}  // namespace

std::vector<std::string> size_lines(const SizeEstimate& estimate, SizeOf what) {
    using Verdict = SizeEstimate::Verdict;
    const bool goes_on = what == SizeOf::kSoFar;
    if (estimate.verdict == Verdict::kNoMisses)
        return {fmt::format(
            "size: too few misses to predict ({}): {}", format_count(static_cast<double>(estimate.misses)),
            goes_on ? "so far it needs no more than the cap that it has; try a smaller one (farswap set)"
                    : "it needs no more than the cap that it had; try a smaller --ram")};
    if (estimate.verdict == Verdict::kTooFew)
        return {fmt::format("size: too few misses to predict ({} pages, {} followed): {}",
                            format_count(static_cast<double>(estimate.misses)), estimate.followed,
                            goes_on ? "it runs not long enough yet, or is paged too little"
                                    : "it ran too short, or was paged too little")};
    std::vector<std::string> lines{
        fmt::format("{:>8}  {}", "RAM", goes_on ? "predicted time of its run so far" : "predicted time")};
    const double longest = estimate.curve.front().seconds;
    for (std::size_t i = 0; i < estimate.curve.size(); i += 2)
        lines.push_back(point_line(estimate.curve[i], longest, estimate.full_speed_s));
    lines.push_back("size: " + sentence(estimate, what));
    return lines;
}

nlohmann::json size_json(const SizeEstimate& estimate) {
    using Verdict = SizeEstimate::Verdict;
    nlohmann::json json{{"verdict", estimate.verdict == Verdict::kKnown    ? "known"
                                    : estimate.verdict == Verdict::kTooFew ? "too_few"
                                                                           : "no_misses"},
                        {"misses", estimate.misses},
                        {"followed", estimate.followed},
                        {"full_speed_s", estimate.full_speed_s},
                        {"need_bytes", estimate.need},
                        {"nearly_full_bytes", nullptr},
                        {"half_speed_bytes", nullptr},
                        {"curve", nlohmann::json::array()}};
    if (estimate.nearly_full) json["nearly_full_bytes"] = *estimate.nearly_full;
    if (estimate.half) json["half_speed_bytes"] = *estimate.half;
    for (const SizePoint& point : estimate.curve)
        json["curve"].push_back(
            {{"cap_bytes", point.cap}, {"seconds", point.seconds}, {"misses", point.misses}});
    return json;
}

nlohmann::json size_facts_json(const SizeFacts& facts) {
    auto waits = nlohmann::json::array();
    for (const auto& one : facts.waits) waits.push_back({one.count, one.seconds});
    return {{"elapsed_s", facts.elapsed_s},         {"user_s", facts.user_s},
            {"cap_bytes", facts.ram_cap},           {"need_bytes", facts.need_peak},
            {"pages_evicted", facts.pages_evicted}, {"waits", std::move(waits)}};
}

std::optional<SizeFacts> size_facts_from(const nlohmann::json& json) {
    try {
        SizeFacts facts{.elapsed_s = seconds_in(json.at("elapsed_s")),
                        .user_s = seconds_in(json.at("user_s")),
                        .ram_cap = count_in(json.at("cap_bytes")),
                        .need_peak = count_in(json.at("need_bytes")),
                        .pages_evicted = count_in(json.at("pages_evicted"))};
        for (std::size_t kind = 0; kind < kFaultKinds; kind++) {
            const auto& waits = json.at("waits").at(kind);
            facts.waits[kind] = {.count = count_in(waits.at(0)), .seconds = seconds_in(waits.at(1))};
        }
        return facts;
    } catch (const nlohmann::json::exception&) {
        return {};
    } catch (const std::out_of_range&) {
        return {};
    }
}

}  // namespace farswap::cli
