// What an estimate says, for people and for programs. Formats; judges nothing.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <string>
#include <vector>

#include "cli/size_estimate.h"

namespace farswap::cli {

/// A plot of at most 79 columns and a sentence.
std::vector<std::string> size_lines(const SizeEstimate& estimate);

/// The object `size` of docs/stats.md.
nlohmann::json size_json(const SizeEstimate& estimate);

}  // namespace farswap::cli
