// How much RAM a process could still take: what the machine has available, and the room in its memory
// cgroups. Reads files only through the reader that it is given.
#pragma once

#include <sys/types.h>

#include "cli/memory_limit.h"

namespace farswap::cli {

struct MemoryRoom {
    std::uint64_t bytes = 0;
    std::string source;  ///< "the machine", or the cgroup directory that has the least
};

/// The least of MemAvailable and, in each memory cgroup from the process's own up to the mount point, the
/// limit less what is in use and is not page cache that could go. EIO when /proc/meminfo cannot be read.
Result<MemoryRoom> memory_room(pid_t process, const FileReader& read);

/// Refuses when `wanted` bytes would not fit, in a line with both numbers. ENOMEM.
Status check_room(std::uint64_t wanted, const MemoryRoom& room);

}  // namespace farswap::cli
