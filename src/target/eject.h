// Takes out of a program what its agent has left there: mappings. Blocking; for the injector's thread.
#pragma once

#include <span>

#include "base/result.h"
#include "target/proc.h"
#include "target/remote.h"

namespace farswap::target {

/// Unmaps the ranges in the stopped task's process. `agent`: a thread that is on its way out, whose stack
/// lies in them; 0: none. ETIMEDOUT: it does not end.
Status eject(RemoteTask& task, pid_t agent, std::span<const AddressRange> ranges);

}  // namespace farswap::target
