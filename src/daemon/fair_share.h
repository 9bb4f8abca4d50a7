// Divides the machine's budget between jobs: weighted max-min between users, then between the jobs of each.
// Arithmetic only; knows neither time nor who is asked.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <vector>

namespace farswap::daemon {

/// One job as the division sees it. All amounts are bytes.
struct ShareNow {
    uid_t user = 0;
    std::uint32_t weight = 1;     ///< of the user, equal in all of his jobs
    std::uint64_t user_most = 0;  ///< for all jobs of the user together, equal in all of them; 0: no limit
    std::uint64_t floor = 0;      ///< it cannot do with less
    std::uint64_t demand = 0;     ///< what it could use well now
    std::uint64_t most = 0;       ///< it wants no more
    std::uint64_t told = 0;       ///< its cap as it was told; 0: it has none yet, and waits
    std::uint64_t held = 0;       ///< what it may still have: `told` at the least
    bool takes_less = false;      ///< one that waits: begins with less than its share, its floor at the least
};

/// What each should have when all have come down to it. Every job gets its floor. Beyond that, users get
/// equal amounts a weight, and jobs of one user equal amounts, but none more than it demands; what is left
/// when all demands are met goes up to `most` in the same way. The sum is at most `budget`, or the sum of the
/// floors if that is more.
std::vector<std::uint64_t> fair_shares(const std::vector<ShareNow>& jobs, std::uint64_t budget);

/// The caps to tell now, in the order of the jobs; who has none yet and keeps 0 waits on. Decreases are told
/// at once, and increases only out of what nobody holds, so that the sum of what is held and told never
/// exceeds `budget` by this. Changes of less than a sixteenth are left alone unless they are needed for
/// others.
std::vector<std::uint64_t> next_caps(const std::vector<ShareNow>& jobs, std::uint64_t budget);

/// Whether a cap need not be changed for so little.
bool is_small_change(std::uint64_t from, std::uint64_t to);

}  // namespace farswap::daemon
