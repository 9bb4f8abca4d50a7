// The report: one HTML page that shows how a job went, made of its statistics. Formats only; the page needs
// nothing from elsewhere.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <string>
#include <string_view>

#include "base/result.h"

namespace farswap::cli {

/// The page. `stats`: what check_stats() has found good.
std::string report_page(const nlohmann::json& stats);

/// What a statistics file holds (docs/stats.md), if a report can be made of it. EINVAL: it is no JSON, of
/// another format, or has no history; says which. `name` is the file's.
Result<nlohmann::json> check_stats(std::string_view text, std::string_view name);

}  // namespace farswap::cli
