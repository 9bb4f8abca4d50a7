// The keeper: a process that shares the pager's memory and descriptors, and makes it live on when it is
// killed (docs/decisions/0025). Knows nothing of pages.
#pragma once

#include <sys/types.h>

#include <cstdint>

#include "base/result.h"

namespace farswap::keeper {

/// Called at each kill, when all threads of the process stand at their ends, and before another process goes
/// on. Runs in the keeper: it may read what is never in the middle of a change, and write what is nobody
/// else's; it may not allocate, wait, make a system call, or use what a thread has of its own. `has_begun`:
/// false where who was killed had not become its predecessor yet.
using Look = void (*)(bool has_begun) noexcept;

/// Starts the keeper of this process, all of whose threads it traces (ptrace(2)). No thread may be started or
/// ended meanwhile; one that is started later can be lost in a kill in its first moment, and then the process
/// ends. When the process is killed by SIGKILL, another one with the same memory, descriptors and threads
/// goes on at the very instruction; killed otherwise, or in the moment in which one of its threads ends, the
/// keeper says so in one line and lets go of the descriptors. EPERM: it may not be traced, or is already;
/// ENOSYS: built with a sanitizer, which the keeper cannot be.
Status start(Look look = nullptr);

/// Ends the keeper. To be called before an end that is meant: without it, an end by SIGKILL is undone.
void stop() noexcept;

/// How many times the process has been killed and went on. Any thread.
std::uint32_t births() noexcept;

/// Where the main thread was when it was killed last, for those who want to know what has been survived.
struct Interruption {
    long system_call = -1;          ///< its number; -1: it was not in one
    std::uint64_t argument = 0;     ///< the second of that call's: what an ioctl(2) was to do
    std::uint64_t instruction = 0;  ///< its address
};
Interruption last_kill() noexcept;

/// The process to name where others are to see whether the job is still paged: the keeper, which outlives the
/// pager; without one, this process.
pid_t witness() noexcept;

/// False once, when the keeper that was started has ended otherwise than by stop(): it is no witness from
/// then on. One thread at a time.
bool is_well() noexcept;

/// While one exists the process cannot go on after a kill, as it is in the middle of something that the
/// kernel ends with it: it traces `process`, whose registers are not its own. A kill now ends the process,
/// too.
class Indivisible {
  public:
    explicit Indivisible(pid_t process) noexcept;
    ~Indivisible();
    Indivisible(const Indivisible&) = delete;
    Indivisible& operator=(const Indivisible&) = delete;
};

}  // namespace farswap::keeper
