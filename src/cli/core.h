// farswap core: core files of paged processes, with the content of what is outside.
#pragma once

#include "cli/exit_status.h"
#include "cli/options.h"

namespace farswap::cli {

/// Writes a core file of a running process, which stands still meanwhile and goes on afterwards.
Ending core_command(const CoreOptions& options);

/// Copies the kernel's core file of a process that is being dumped from standard input, with what was outside
/// put in. One that no pager has is copied as it is.
Ending merge_core_command(const CoreOptions& options);

}  // namespace farswap::cli
