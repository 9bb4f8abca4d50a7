// farswap set: gives a running job another cap.
#pragma once

#include <chrono>

#include "cli/options.h"

namespace farswap::cli {

/// What a pager says after it has changed its cap. Bytes.
struct CapChange {
    std::uint64_t cap = 0, before = 0;
    std::uint64_t used = 0;   ///< by the job, at that moment
    std::uint64_t limit = 0;  ///< what its machine or control group allows
    pid_t pager = 0;
};

/// Asks the pager of the process. ENOENT, EPERM: as find_pager_of(). EINVAL: the cap is too small, and the
/// least that works. ETIMEDOUT: no answer within `patience`.
Result<CapChange> set_ram_of(pid_t process, const RamSize& ram,
                             std::chrono::milliseconds patience = std::chrono::seconds(10));
/// "cap 512 MiB instead of 256 MiB, 251 MiB are used".
std::string describe(const CapChange& change);
/// What a machine's budget leaves of what was asked for; empty where it leaves all of it.
std::string what_budget_leaves(const CapChange& change, const RamSize& asked);

/// The exit status: 0 or 125.
int set_command(const SetOptions& options);

}  // namespace farswap::cli
