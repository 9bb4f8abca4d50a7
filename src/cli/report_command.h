// farswap report: makes the page of a statistics file.
#pragma once

#include "cli/options.h"

namespace farswap::cli {

/// Its exit status.
int report_command(const ReportOptions& options);

}  // namespace farswap::cli
