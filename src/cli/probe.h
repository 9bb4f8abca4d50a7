// Finds out what this machine and this user can do, by trying. Knows nothing of jobs.
#pragma once

#include "cli/machine.h"

namespace farswap::cli {

/// Tries everything that a job needs and leaves nothing behind; a few milliseconds. Error numbers go into the
/// facts.
MachineFacts probe_machine();

/// CAP_IPC_LOCK, or RLIMIT_MEMLOCK without a limit: mlockall(2) cannot make later mappings fail.
bool can_lock_all_memory() noexcept;

}  // namespace farswap::cli
