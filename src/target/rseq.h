// Restartable sequences of another task (rseq(2), include/uapi/linux/rseq.h).
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>

namespace farswap::target {

/// Where the task, stopped under ptrace at `instruction`, has to go on: at its abort handler if it is inside
/// of a restartable sequence. The kernel cares for that whenever it interrupts one, but it looks at where the
/// task is when it goes back to user space, and that is elsewhere while we have it make system calls.
std::optional<std::uint64_t> rseq_abort(pid_t task, std::uint64_t instruction);

}  // namespace farswap::target
