// What was recorded of a job, and how long its faults took, as docs/stats.md describes it. Formats only.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "pager/recorder.h"

namespace farswap::cli {

/// The object `faults.latency`.
nlohmann::json latencies_json(const FaultLatencies& latencies);

/// The objects `history` and `regions`.
nlohmann::json history_json(const History& history);
nlohmann::json regions_json(const Regions& regions);

}  // namespace farswap::cli
