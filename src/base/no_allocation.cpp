#include "base/no_allocation.h"

namespace farswap {

constinit thread_local const char* no_allocation_in = nullptr;

}  // namespace farswap
