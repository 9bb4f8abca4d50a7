// farswap budget: who holds what of the machine's budget, as farswapd says.
#pragma once

#include "cli/options.h"

namespace farswap::cli {

/// The exit status: 0, or 125 when there is no budget or farswapd does not say.
int budget_command(const BudgetOptions& options);

}  // namespace farswap::cli
