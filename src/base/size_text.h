// Sizes in bytes as people write them. Knows of no layer.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace farswap {

/// "4096", "512M", "1.5G", "2GiB", "100k" in bytes: K, M, G, T are powers of 1024; a fraction is rounded down
/// to whole bytes. EINVAL for anything else, zero and more than 2^62 bytes.
Result<std::uint64_t> parse_size(std::string_view text);

/// "1.5 GiB", for messages.
std::string format_size(std::uint64_t bytes);

}  // namespace farswap
