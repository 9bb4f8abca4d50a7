// What a job does while it runs, as JSON for other programs. Formats; asks nobody.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "cli/report.h"

namespace farswap::cli {

/// How a store is doing.
struct StoreState {
    double silent_s = 0;       ///< owes an answer, and has said nothing for so long
    bool is_degraded = false;  ///< a mirror of which one half does not have everything
    std::uint32_t copies = 1;  ///< of each page

    /// "ok", "degraded", or "silent" from when the job says so on standard error (pager/outage.h).
    std::string_view name() const;
};

/// The job's part of what farswapd divides. Bytes.
struct ShareFacts {
    std::uint64_t cap = 0, wanted = 0;
    std::uint64_t budget = 0;  ///< of all jobs
    bool is_connected = true;  ///< else farswapd is away, and the cap stays
};

/// What a report does not say, as it is of no use once the job is over.
struct LiveFacts {
    pid_t pager = 0;
    uid_t user = 0;
    std::string command;           ///< the program and its arguments
    std::vector<pid_t> processes;  ///< managed now
    std::uint64_t slots_used = 0, slots_capacity = 0;
    bool is_full = false;               ///< no slot is free, nor can there be more
    std::optional<ShareFacts> share{};  ///< nothing: it has the machine for itself
    std::vector<StoreState> stores{};   ///< as many as there are in the report, in its order
};

/// The state of one store.
StoreState state_of(const Store& store, const std::vector<StoreWait>& waits, io::Clock::time_point now);

/// Bytes of pages that were written, and of what they took on their stores, once for each page.
struct StoredBytes {
    std::uint64_t pages = 0, stored = 0;
    /// Of the one to the other; 0 when there is none yet.
    double ratio() const { return stored > 0 ? static_cast<double>(pages) / static_cast<double>(stored) : 0; }
};
StoredBytes stored_bytes(const JobReport& report, const LiveFacts& facts);

/// The object that docs/stats.md describes, without what only the end of a job tells.
nlohmann::json live_stats_json(const JobReport& report, const LiveFacts& facts);

}  // namespace farswap::cli
