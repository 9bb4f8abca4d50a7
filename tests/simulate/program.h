// The program that is paged: threads that do at random what programs do with memory, and compare all that
// they read with the oracle.
#pragma once

#include "kernel.h"

namespace farswap::simulate {

/// A process that has begun, and is to be paged.
Process& start_program();

}  // namespace farswap::simulate
