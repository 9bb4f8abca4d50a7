// farswap check: tells whether this machine and the stores that are named can do it, and removes what dead
// jobs left. Writes its findings to standard output.
#pragma once

#include "cli/options.h"

namespace farswap::cli {

/// 0: `run` will work here and with these stores; 1: it will not, or something was left that could be
/// removed.
int check_command(const CheckOptions& options);

}  // namespace farswap::cli
