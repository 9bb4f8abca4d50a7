// Bytes by the binary prefixes of IEC 80000-13.
#pragma once

#include <cstdint>

namespace farswap {

inline constexpr std::uint64_t kKiB = 1ull << 10;
inline constexpr std::uint64_t kMiB = 1ull << 20;
inline constexpr std::uint64_t kGiB = 1ull << 30;

}  // namespace farswap
