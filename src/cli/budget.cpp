// Divides the cap; see budget.h.
#include "cli/budget.h"

#include <algorithm>

#include "base/units.h"
#include "farswap/request.h"

namespace farswap::cli {

std::uint64_t default_pool(std::uint64_t cap) noexcept {
    return std::clamp(cap / 16 / kMiB * kMiB, kPoolMin, kPoolMax);
}

std::uint64_t least_cap(std::uint64_t pool, std::uint64_t pager) noexcept {
    return std::max(pool + kCapBesidePool, pager + kProgramLeast);
}

Result<Budget> make_budget(const RamSize& ram, std::optional<std::uint64_t> pool, std::uint64_t limit) {
    if (pool && *pool < kPoolLeast)
        return fail(EINVAL, "--pool {} is too small; the least that works is {}", format_size(*pool),
                    format_size_argument(kPoolLeast));
    const std::uint64_t cap = resolve(ram, limit);
    const std::uint64_t pool_bytes = pool.value_or(default_pool(cap)) / kPageSize * kPageSize;
    const std::uint64_t least = least_cap(pool_bytes, 0);
    if (cap < least)
        return fail(EINVAL,
                    "--ram {} is too small for the pager with a pool of {}; the least that works is {}",
                    format_size(cap), format_size(pool_bytes), format_size_argument(least));
    return Budget{.cap = cap, .pool = pool_bytes};
}

}  // namespace farswap::cli
