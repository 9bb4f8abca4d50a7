// Whether the seccomp filters of a program let the agent do its work: it runs behind them for life.
// Evaluates, changes nothing.
#pragma once

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/types.h>

#include <span>
#include <vector>

#include "base/result.h"

namespace farswap::target {

/// What one filter answers (SECCOMP_RET_* with its data, seccomp(2)) to a call; SECCOMP_RET_KILL_PROCESS for
/// a program that the kernel would not have taken.
__u32 run_filter(std::span<const sock_filter> program, const seccomp_data& call) noexcept;

/// What all filters together answer: the most restrictive answer, the last filter's among equals.
__u32 run_filters(const std::vector<std::vector<sock_filter>>& filters, const seccomp_data& call) noexcept;

/// Whether the filters of `task`, stopped under ptrace by this thread, allow each system call that puts the
/// agent in and that the agent makes. EACCES: one is refused, which is named; or the filters cannot be read,
/// which needs CAP_SYS_ADMIN (ptrace(2), PTRACE_SECCOMP_GET_FILTER) unless they are our own, inherited, or
/// one of those that it has beyond, with `behind_gate` (AdviceGate). No call is made.
Status check_seccomp(pid_t task, bool behind_gate = false);

}  // namespace farswap::target
