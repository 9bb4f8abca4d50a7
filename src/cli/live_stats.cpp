// Formats a running job's figures; see live_stats.h.
#include "cli/live_stats.h"

#include <nlohmann/json.hpp>

#include <algorithm>

#include "pager/outage.h"
#include "store/mirror_store.h"

namespace farswap::cli {

namespace {

constexpr std::size_t kProcessesMax = 256;  // an answer has a limit

}  // namespace

std::string_view StoreState::name() const {
    if (silent_s >= static_cast<double>(OutageWatch::kNoticed.count())) return "silent";
    return is_degraded ? "degraded" : "ok";
}

StoreState state_of(const Store& store, const std::vector<StoreWait>& waits, io::Clock::time_point now) {
    StoreState state{.copies = store.copies()};
    if (const auto* mirror = dynamic_cast<const MirrorStore*>(&store))
        state.is_degraded = !mirror->complete();
    const auto wait = std::ranges::find(waits, &store, &StoreWait::store);
    if (wait != waits.end()) state.silent_s = std::chrono::duration<double>(now - wait->since).count();
    return state;
}

StoredBytes stored_bytes(const JobReport& report, const LiveFacts& facts) {
    StoredBytes bytes{.pages = report.stats.swap.pages_written * kPageSize};
    for (std::size_t i = 0; i < report.stores.size(); ++i)
        bytes.stored +=
            report.stores[i].counters.bytes_written / (i < facts.stores.size() ? facts.stores[i].copies : 1);
    return bytes;
}

nlohmann::json live_stats_json(const JobReport& report, const LiveFacts& facts) {
    const auto& s = report.stats;
    auto json = stats_json(report);
    json.erase("exit");
    json.erase("failure");
    // An answer has a limit, and whoever looks again and again wants to know of refaults.
    for (auto& [kind, times] : json["faults"]["latency"].items())
        if (kind != "refaults") times.erase("buckets");
    json["pager"] = facts.pager;
    json["user"] = facts.user;
    json["command"] = facts.command;
    const auto shown = std::min(facts.processes.size(), kProcessesMax);
    json["processes"]["pids"] = std::vector<pid_t>(
        facts.processes.begin(), facts.processes.begin() + static_cast<std::ptrdiff_t>(shown));
    json["memory"]["used_bytes"] = s.ram_now;
    json["memory"]["far_bytes"] = s.far_pages * kPageSize;
    json["pool"]["dirty_bytes"] = s.swap.frames_dirty * kPageSize;
    json["pool"]["clean_bytes"] = s.swap.frames_clean * kPageSize;
    const auto bytes = stored_bytes(report, facts);
    json["compression"] = {{"page_bytes", bytes.pages}, {"stored_bytes", bytes.stored}};
    json["slots"] = {{"used", facts.slots_used}, {"capacity", facts.slots_capacity}, {"full", facts.is_full}};
    json["share"] = nullptr;
    if (facts.share)
        json["share"] = {{"cap_bytes", facts.share->cap},
                         {"wanted_bytes", facts.share->wanted},
                         {"budget_bytes", facts.share->budget},
                         {"connected", facts.share->is_connected}};
    for (std::size_t i = 0; i < report.stores.size() && i < facts.stores.size(); ++i) {
        json["stores"][i]["state"] = facts.stores[i].name();
        json["stores"][i]["silent_s"] = facts.stores[i].silent_s;
    }
    return json;
}

}  // namespace farswap::cli
