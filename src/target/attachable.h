// Whether a process that runs already can be managed, as far as can be told without touching it.
#pragma once

#include <sys/types.h>

#include "base/result.h"

namespace farswap::target {

/// ESRCH: there is no such process (any more); EINVAL: a thread's number, a thread of the kernel, farswap
/// itself or who started us; EALREADY: it has an agent; EPERM: it is another user's; EBUSY: somebody traces
/// it. One line each, which says what to do. What only its registers and filters tell, injection refuses.
Status check_attachable(pid_t process);

/// Whether the process has an agent: a thread that bears our name.
bool has_agent(pid_t process);

}  // namespace farswap::target
