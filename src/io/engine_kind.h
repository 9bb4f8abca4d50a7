// Which ways there are for a loop to reach the kernel, and which one is asked for. Knows nothing of how they
// work.
#pragma once

#include <cstdint>
#include <optional>

#include "base/result.h"

namespace farswap::io {

/// io_uring(7), or epoll(7) with threads for files where that is refused.
enum class EngineKind : std::uint8_t { kIoUring, kEpoll };

/// "io_uring" or "epoll": as messages, statistics and FARSWAP_IO_ENGINE spell it.
const char* name_of(EngineKind kind) noexcept;

/// The one that the environment variable FARSWAP_IO_ENGINE asks for; nothing when it is unset or empty.
/// EINVAL when it names none.
Result<std::optional<EngineKind>> engine_asked_for();

/// Makes an io_uring and uses it once, as a loop does. -> 0, or the error number of io_uring_setup(2) or
/// io_uring_enter(2).
int try_io_uring();

/// Whether this error of try_io_uring() means that the machine does not let us have it: a seccomp filter or a
/// security module (EPERM, EACCES), kernel.io_uring_disabled (EPERM), a kernel without (ENOSYS).
bool is_refusal(int error) noexcept;

}  // namespace farswap::io
