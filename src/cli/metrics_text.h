// A running job's figures in Prometheus' text format (version 0.0.4). Formats; knows no sockets.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "cli/live_stats.h"
#include "cli/report.h"

namespace farswap::cli {

/// All metrics, each with HELP and TYPE; docs/metrics.md lists them.
std::string metrics_text(const JobReport& report, const LiveFacts& facts);
/// Their names.
std::vector<std::string_view> metric_names();

}  // namespace farswap::cli
