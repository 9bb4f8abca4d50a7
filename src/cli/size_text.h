// What an estimate says, for people and for programs. Formats; judges nothing.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <string>
#include <vector>

#include "cli/size_estimate.h"

namespace farswap::cli {

/// What an estimate is of.
enum class SizeOf : std::uint8_t {
    kRun,    ///< one that is over
    kSoFar,  ///< one that goes on
};

/// A plot of at most 79 columns and a sentence.
std::vector<std::string> size_lines(const SizeEstimate& estimate, SizeOf what = SizeOf::kRun);

/// The object `size` of docs/stats.md.
nlohmann::json size_json(const SizeEstimate& estimate);

/// What a pager tells of its run, for whoever estimates.
nlohmann::json size_facts_json(const SizeFacts& facts);
/// Throws nlohmann::json::exception where it is none.
SizeFacts size_facts_from(const nlohmann::json& json);

}  // namespace farswap::cli
