// farswap debug: a debugger that sees all memory of paged processes.
#pragma once

#include "cli/exit_status.h"
#include "cli/options.h"

namespace farswap::cli {

/// Becomes the debugger that is named, with the library of debug_preload.cpp loaded into it; returns only
/// when that fails.
Ending debug_command(const DebugOptions& options);

}  // namespace farswap::cli
