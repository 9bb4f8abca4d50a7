// Takes away from farswapd what it does not need. Linux only; for the process as a whole.
#pragma once

#include "base/result.h"

namespace farswap::daemon {

/// Leaves this process and its children CAP_SYS_PTRACE and no other capability, also by an exec. EPERM: it
/// does not have it.
Status keep_one_capability();

/// Leaves this process and its children no capability at all, also by an exec.
Status keep_no_capability();

/// Forbids all system calls but those that relay() makes: there is nothing left to do but to receive, send
/// and wait. Any other fails with EPERM. For good.
Status forbid_all_but_relaying();

/// Forbids all system calls but those that serve() makes: with CAP_SYS_PTRACE there is nothing left to do but
/// UFFDIO_API. Any other fails with EPERM. For good.
Status forbid_other_calls();

}  // namespace farswap::daemon
