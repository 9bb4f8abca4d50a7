// Where a record lies on its store, and the sizes that records come in. Knows numbers only.
#pragma once

#include <cstdint>

#include "farswap/request.h"

namespace farswap {

/// Stores are read and written in blocks, of the size of a page; records take whole units of them, and
/// several may lie in a block, or one in two. How many units a record has is all that its size tells.
inline constexpr std::uint32_t kBlockBytes = kPageSize;
inline constexpr std::uint32_t kUnitBytes = 512;
inline constexpr std::uint32_t kUnitsPerBlock = kBlockBytes / kUnitBytes;
/// The units that a store may have: 2 TiB of it are used.
inline constexpr std::uint64_t kUnitsMax = std::uint64_t{1} << 32;

/// Units of one store, counted from its start. No units: the record has no place yet.
struct Place {
    std::uint32_t first = 0;
    std::uint32_t units = 0;

    constexpr std::uint64_t end() const noexcept { return std::uint64_t{first} + units; }
    constexpr std::uint32_t first_block() const noexcept { return first / kUnitsPerBlock; }
    constexpr std::uint32_t last_block() const noexcept {
        return static_cast<std::uint32_t>((end() - 1) / kUnitsPerBlock);
    }
    constexpr std::uint64_t offset() const noexcept { return std::uint64_t{first} * kUnitBytes; }
    friend constexpr bool operator==(Place, Place) = default;
};

constexpr std::uint64_t block_offset(std::uint32_t block) noexcept {
    return std::uint64_t{block} * kBlockBytes;
}
/// Blocks that so many units take from the start of one on.
constexpr std::uint32_t blocks_for(std::uint32_t units) noexcept {
    return (units + kUnitsPerBlock - 1) / kUnitsPerBlock;
}
/// Blocks of a store of so many bytes that may be used.
constexpr std::uint64_t blocks_in(std::uint64_t bytes) noexcept {
    const std::uint64_t blocks = bytes / kBlockBytes;
    return blocks < kUnitsMax / kUnitsPerBlock ? blocks : kUnitsMax / kUnitsPerBlock;
}

}  // namespace farswap
