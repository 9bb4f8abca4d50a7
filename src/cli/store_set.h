// The stores of a job together: their priorities, and who mirrors whom. Knows URLs and stores as such; opens
// none.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "farswap/store.h"
#include "io/loop.h"

namespace farswap::cli {

/// Whether the only store is none at all: what compresses stays in memory (--swap none).
bool keeps_in_memory(const std::vector<std::string>& urls);

/// Checks the URLs by their text, and the priorities of the stores that they make, for SwapAreaOptions: one
/// for each URL, or for each pair of them where `copies` is 2. EINVAL: a URL is wrong, or the two of a pair
/// are the same or differ in priority. `urls` has an even number of them then.
Result<std::vector<int>> plan_stores(const std::vector<std::string>& urls, std::uint32_t copies);

/// Each two that stand next to each other become one store that keeps everything on both.
Result<std::vector<std::unique_ptr<Store>>> mirror_in_pairs(std::vector<std::unique_ptr<Store>> stores,
                                                            io::Loop& loop);

}  // namespace farswap::cli
