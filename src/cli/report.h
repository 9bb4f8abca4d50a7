// What a job was, once it is over: the summary for people and the JSON for programs. Formats; writes nothing.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <memory>
#include <string>
#include <vector>

#include "cli/exit_status.h"
#include "farswap/store.h"
#include "pager/job.h"

namespace farswap::cli {

struct StoreReport {
    std::string name;
    std::uint64_t capacity = 0, reserved = 0;  ///< bytes
    Store::Counters counters;
};

/// All that is known of a job. Without `started` only `program`, `failure`, `ending` and perhaps some of the
/// stores are.
struct JobReport {
    std::string program{};
    bool started = false;
    Ending ending{};
    std::string failure{};  ///< why farswap could not start or had to stop the program; empty when it did not
    JobStats stats{};
    std::uint64_t pool = 0;         ///< bytes
    std::uint64_t pool_wanted = 0;  ///< bytes; more than `pool` if no more could be locked
    bool pool_locked = false, pool_registered = false;
    std::optional<io::EngineKind> io_engine{};  ///< nothing: it did not get that far
    std::vector<StoreReport> stores{};
    std::shared_ptr<const Recording> recording{};  ///< nothing: none was made
    std::shared_ptr<const MissCurve> misses{};     ///< likewise
    double user_s = 0;                             ///< user time of the job's processes; 0: not known
    std::vector<std::string> notes{};              ///< what the operator should know, one line each
};

/// A few aligned lines; one short line (and the notes) when no page left RAM.
std::vector<std::string> summary_lines(const JobReport& report);

/// The object that docs/stats.md describes, without `history`, `regions` and `size`.
nlohmann::json stats_json(const JobReport& report);
/// All of it.
nlohmann::json full_stats_json(const JobReport& report);
/// What is written of it: a line a figure, but one for all of `history` and so on. UTF-8.
std::string stats_text(const nlohmann::json& full_stats);

/// Notes that follow from the figures: unlocked or unregistered pool, unmanaged processes, reconnects, lost
/// writes.
std::vector<std::string> notes_of(const JobReport& report);

}  // namespace farswap::cli
