// Divides the cap between the program and the pager. Arithmetic only.
#pragma once

#include <cstdint>
#include <optional>

#include "base/result.h"
#include "cli/sizes.h"

namespace farswap::cli {

inline constexpr std::uint64_t kPoolMin = 4ull << 20;    ///< of the default; --pool may go down to kPoolLeast
inline constexpr std::uint64_t kPoolMax = 256ull << 20;  ///< of the default; more does not make I/O faster
inline constexpr std::uint64_t kPoolLeast = 1ull
                                            << 20;  ///< four runs of 256 KiB: below, write-out cannot overlap
/// Locked besides the pool: keys, half-made records, the windows of pages, registers that the keeper saves.
inline constexpr std::uint64_t kLockedBesidePool = 1ull << 20;
inline constexpr std::uint64_t kCapBesidePool = 16ull
                                                << 20;  ///< tables, code and room for the program to move in

inline constexpr std::uint64_t kProgramLeast = 8ull << 20;  ///< of a job that runs, beside its pager

/// What the job may use. `cap` counts everything: the program, the pool and the rest of the pager.
struct Budget {
    std::uint64_t cap = 0;   ///< bytes
    std::uint64_t pool = 0;  ///< bytes, whole pages
};

/// A sixteenth of the cap between kPoolMin and kPoolMax, in whole MiB.
std::uint64_t default_pool(std::uint64_t cap) noexcept;

/// The least cap of a job that runs: `pager` is what its pager takes by now, the pool included.
std::uint64_t least_cap(std::uint64_t pool, std::uint64_t pager) noexcept;

/// EINVAL, with the least that works, for a pool under kPoolLeast and a cap under the pool + kCapBesidePool.
Result<Budget> make_budget(const RamSize& ram, std::optional<std::uint64_t> pool, std::uint64_t limit);

}  // namespace farswap::cli
