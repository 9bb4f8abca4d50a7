// Formats a job's report; see report.h.
#include "cli/report.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cli/recording_json.h"
#include "cli/size_text.h"
#include "cli/sizes.h"

namespace farswap::cli {

namespace {

std::string pages(std::uint64_t count) {
    return fmt::format("{} ({})", format_count(static_cast<double>(count)), format_size(count * kPageSize));
}

std::string count(std::uint64_t value) {
    return format_count(static_cast<double>(value));
}

std::string seconds(double value) {
    return fmt::format("{:.{}f} s", value, value < 99.95 ? 1 : 0);
}

std::string line(std::string_view label, std::string_view text) {
    return fmt::format("{:<9}{}", label, text);
}

std::string store_line(const StoreReport& store) {
    const auto& c = store.counters;
    auto text = fmt::format("{}  reads {} ({})  writes {} ({})  flushes {}", store.name, count(c.reads),
                            format_size(c.bytes_read), count(c.writes), format_size(c.bytes_written),
                            count(c.flushes));
    if (c.retries > 0) text += fmt::format("  retries {}", count(c.retries));
    return line("store", text);
}

nlohmann::json store_json(const StoreReport& store) {
    const auto& c = store.counters;
    return {{"name", store.name},
            {"capacity_bytes", store.capacity},
            {"reserved_bytes", store.reserved},
            {"reads", c.reads},
            {"writes", c.writes},
            {"flushes", c.flushes},
            {"read_bytes", c.bytes_read},
            {"written_bytes", c.bytes_written},
            {"retries", c.retries},
            {"reconnects", c.reconnects},
            {"copied_bytes", c.bytes_copied},
            {"lost_writes", c.lost_writes}};
}

}  // namespace

std::vector<std::string> summary_lines(const JobReport& report) {
    std::vector<std::string> lines;
    const auto& s = report.stats;
    if (!report.started) return lines;
    if (s.pages_evicted == 0) {
        lines.push_back(fmt::format("no page left RAM: need {}, cap {}, {}", format_size(s.need_peak),
                                    format_size(s.ram_cap), seconds(s.elapsed_s)));
    } else {
        lines.push_back(line("memory", fmt::format("need {}  cap {}  peak {}  pager {}",
                                                   format_size(s.need_peak), format_size(s.ram_cap),
                                                   format_size(s.ram_peak), format_size(s.pager_ram))));
        lines.push_back(line(
            "pages", fmt::format("out {}  unchanged {}  one word {}  written {}  in {}  prefetched {}",
                                 pages(s.pages_evicted), count(s.pages_clean), count(s.swap.pages_filled),
                                 pages(s.swap.pages_written), pages(s.swap.pages_in), count(s.prefetched))));
        const bool stays_in_memory = s.swap.bytes_packed_peak > 0 && s.swap.tier_limit == 0;
        if (stays_in_memory)
            lines.push_back(
                line("packed",
                     fmt::format("{} in {} at the most  too large {}", pages(s.swap.pages_packed_at_peak),
                                 format_size(s.swap.bytes_packed_peak), count(s.pages_too_large))));
        else if (s.swap.bytes_packed_peak > 0)
            lines.push_back(
                line("tier",
                     fmt::format(
                         "{} in {} at the most  share {}% of the cap  found there {}  went on to a store {}",
                         pages(s.swap.pages_packed_at_peak), format_size(s.swap.bytes_packed_peak),
                         s.swap.tier_limit * 100 / std::max<std::uint64_t>(s.ram_cap, 1),
                         count(s.swap.tier_found), count(s.swap.tier_written_back))));
        lines.push_back(
            line("faults", fmt::format("{}  first touch {}  second chance {}  cache {}  store {}",
                                       count(s.faults), count(s.faults_first), count(s.second_chances),
                                       count(s.faults_cached), count(s.faults_stored))));
        for (const auto& store : report.stores)
            if (!stays_in_memory) lines.push_back(store_line(store));
        lines.push_back(line("time", fmt::format("{}  waited for room {}  processes {}", seconds(s.elapsed_s),
                                                 seconds(static_cast<double>(s.throttled_ms) / 1000),
                                                 count(s.processes_seen))));
    }
    for (const auto& note : report.notes) lines.push_back(line("note", note));
    return lines;
}

std::vector<std::string> notes_of(const JobReport& report) {
    std::vector<std::string> notes;
    const auto& s = report.stats;
    if (!report.pool_locked)
        notes.push_back(
            fmt::format("the pool of {} is not locked in RAM: the limit on locked memory is too small "
                        "(ulimit -l); farswap check says how to raise it",
                        format_size(report.pool)));
    else if (report.pool < report.pool_wanted)
        notes.push_back(
            fmt::format("the pool has {} instead of {}, as no more memory could be locked (ulimit -l); "
                        "farswap check says how "
                        "to raise that",
                        format_size(report.pool), format_size(report.pool_wanted)));
    if (report.pool_locked && !report.pool_registered && report.io_engine == io::EngineKind::kIoUring)
        notes.push_back(
            "the pool is not registered with io_uring, I/O costs more: the limit on locked memory is too "
            "small (ulimit -l)");
    if (s.processes_unmanaged > 0)
        notes.push_back(
            fmt::format("{} of {} processes ran without being managed; their memory counts but stays in RAM",
                        s.processes_unmanaged, s.processes_seen));
    if (s.pagers_killed > 0)
        notes.push_back(fmt::format(
            "the pager was killed {}, and another process went on in its place; who had started it does not "
            "hear how the program ended",
            s.pagers_killed == 1 ? "once" : fmt::format("{} times", s.pagers_killed)));
    for (const auto& store : report.stores) {
        if (store.counters.reconnects > 0 || store.counters.lost_writes > 0)
            notes.push_back(
                fmt::format("{}: connected anew {} times, lost acknowledged writes {} times (sent again)",
                            store.name, store.counters.reconnects, store.counters.lost_writes));
    }
    return notes;
}

nlohmann::json stats_json(const JobReport& report) {
    const auto& s = report.stats;
    nlohmann::json json = {
        {"format", 1},
        {"program", report.program},
        {"started", report.started},
        {"exit", {{"status", report.ending.status}, {"signal", report.ending.signal}}},
        {"failure", nullptr},
        {"elapsed_s", s.elapsed_s},
        {"pagers_killed", s.pagers_killed},
        {"memory",
         {{"cap_bytes", s.ram_cap},
          {"peak_bytes", s.ram_peak},
          {"need_bytes", s.need_peak},
          {"pager_bytes", s.pager_ram},
          {"far_peak_bytes", s.far_peak * kPageSize}}},
        {"io_engine", nullptr},
        {"pool",
         {{"bytes", report.pool}, {"locked", report.pool_locked}, {"registered", report.pool_registered}}},
        {"pages",
         {{"evicted", s.pages_evicted},
          {"out", s.swap.pages_out},
          {"unchanged", s.pages_clean},
          {"one_word", s.swap.pages_filled},
          {"written", s.swap.pages_written},
          {"in", s.swap.pages_in},
          {"prefetched", s.prefetched},
          {"cache_hits", s.swap.cache_hits},
          {"packed_at_peak", s.swap.pages_packed_at_peak},
          {"packed_peak_bytes", s.swap.bytes_packed_peak},
          {"too_large", s.pages_too_large}}},
        {"cache_tier",
         {{"limit_bytes", s.swap.tier_limit},
          {"found", s.swap.tier_found},
          {"written_back", s.swap.tier_written_back}}},
        {"faults",
         {{"all", s.faults},
          {"first_touch", s.faults_first},
          {"second_chance", s.second_chances},
          {"cached", s.faults_cached},
          {"stored", s.faults_stored},
          {"waited_for_room_ms", s.throttled_ms},
          {"latency", latencies_json(s.latencies)}}},
        {"processes",
         {{"seen", s.processes_seen},
          {"managed", s.processes_managed},
          {"unmanaged", s.processes_unmanaged}}},
        {"stores", nlohmann::json::array()},
        {"notes", report.notes}};
    if (!report.failure.empty()) json["failure"] = report.failure;
    if (report.io_engine) json["io_engine"] = io::name_of(*report.io_engine);
    for (const auto& store : report.stores) json["stores"].push_back(store_json(store));
    return json;
}

nlohmann::json full_stats_json(const JobReport& report) {
    auto json = stats_json(report);
    if (report.recording) {
        json["history"] = history_json(report.recording->history);
        json["regions"] = regions_json(report.recording->regions);
        if (report.misses)
            json["size"] =
                size_json(estimate_size(size_facts_of(report.stats, report.user_s), *report.misses));
    }
    return json;
}

std::string stats_text(const nlohmann::json& full_stats) {
    // Arguments and names need not be UTF-8, JSON must be.
    const auto dump = [](const nlohmann::json& json, int indent) {
        return json.dump(indent, ' ', false, nlohmann::json::error_handler_t::replace);
    };
    auto figures = full_stats;
    std::string long_ones;
    for (const char* name : {"history", "regions", "size"}) {
        if (figures.erase(name) > 0)
            long_ones += fmt::format(",\n  \"{}\": {}", name, dump(full_stats[name], -1));
    }
    auto text = dump(figures, 2);
    text.resize(text.size() - 2);  // the last brace and the end of line before it
    return text + long_ones + "\n}\n";
}

}  // namespace farswap::cli
