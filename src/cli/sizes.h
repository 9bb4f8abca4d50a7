// Sizes as people write and read them: "512M", "1.5GiB", "25%". Knows nothing of what is measured.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace farswap::cli {

/// A cap as given on the command line: a number of bytes, or a part of the machine's memory.
struct RamSize {
    std::uint64_t bytes = 0;  ///< 0 when it is a percentage
    double percent = 0;       ///< above 0, at most 100; 0 when it is a number of bytes
};

/// As in a store's ?size= (store/url.h), with an error that begins with `option` ("--pool"). EINVAL: not a
/// size.
Result<std::uint64_t> parse_size(std::string_view option, std::string_view text);

/// Parses what parse_size() does, and "25%" or "12.5%".
Result<RamSize> parse_ram_size(std::string_view option, std::string_view text);

/// The cap in bytes, where `whole` is what 100% stands for.
std::uint64_t resolve(const RamSize& size, std::uint64_t whole) noexcept;

/// "0 B", "512 KiB", "1.2 GiB", "251 MiB": one decimal below 10, none from there on.
std::string format_size(std::uint64_t bytes);
/// A least size, rounded up so that it can be given back to parse_size(): "20M".
std::string format_size_argument(std::uint64_t bytes);
/// "999", "1.2 k", "12 k", "3.4 M".
std::string format_count(double count);
/// How long something short took: "85 us", "1.2 ms", "12 s".
std::string format_latency(double microseconds);
/// Bytes a second in decimal units, as disks and networks are rated: "312 MB/s".
std::string format_rate(double bytes_per_s);

}  // namespace farswap::cli
