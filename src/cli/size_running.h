// farswap size PID: asks a running job how fast it would be with other caps.
#pragma once

#include "cli/exit_status.h"
#include "cli/options.h"

namespace farswap::cli {

/// Prints the plot and the sentence of the job's run so far, or why there are none. The pager only tells what
/// it knows; what is concluded is computed here, where nobody waits for a page.
Ending size_command(const SizeOptions& options);

}  // namespace farswap::cli
