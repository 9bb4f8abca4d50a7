// farswap bench: what a store can do, at the sizes and depths at which pages travel. Writes tables to
// standard output.
#pragma once

#include "cli/options.h"

namespace farswap::cli {

/// 0, or 1 when a store could not be measured; one line says why.
int bench_command(const BenchOptions& options);

}  // namespace farswap::cli
