// farswap resume: has a job go on whose pager is stopped.
#pragma once

#include "cli/options.h"

namespace farswap::cli {

/// -> the exit status: 0 if another process has taken the stopped pager's place; the reason why not is said
/// in one line.
int resume_command(const ResumeOptions& options);

}  // namespace farswap::cli
