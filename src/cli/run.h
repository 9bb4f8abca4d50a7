// farswap run: makes the pieces of a job, runs it, cleans up, reports. Knows the layers below by their faces
// only.
#pragma once

#include "cli/exit_status.h"
#include "cli/options.h"

namespace farswap::cli {

/// Runs the job. All that it made is gone when it returns; the caller ends the process (end_process()).
Ending run_command(const RunOptions& options);

}  // namespace farswap::cli
