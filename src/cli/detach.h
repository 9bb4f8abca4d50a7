// farswap detach: has a running pager let go of a process and all below it.
#pragma once

#include "cli/exit_status.h"
#include "cli/options.h"

namespace farswap::cli {

/// Shows what has come back on a terminal. Interrupted, what has not left yet stays managed. The status: 0,
/// 125, or that of the signal.
Ending detach_command(const DetachOptions& options);

}  // namespace farswap::cli
