// farswap top: the terminal around its screen.
#pragma once

#include "cli/exit_status.h"
#include "cli/options.h"

namespace farswap::cli {

/// Until a key or a signal ends it; prints once where standard input or output is no terminal. The terminal
/// is as before whatever the ending: 0, 125 or that of the signal.
Ending top_command(const TopOptions& options);

}  // namespace farswap::cli
