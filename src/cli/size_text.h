// What an estimate says, for people and for programs. Formats; judges nothing.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <optional>
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
/// Nothing where it is none, or a figure is one that no run can have: who says it may say anything.
std::optional<SizeFacts> size_facts_from(const nlohmann::json& json);

}  // namespace farswap::cli
