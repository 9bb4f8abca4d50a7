// Tells places that are in memory from places on a disk: swapping to memory would use up what it is to save.
// Knows file systems and block devices; nothing of stores.
#pragma once

#include <sys/types.h>

#include <string>

#include "base/result.h"

namespace farswap {

/// EINVAL when the directory or file lies on tmpfs, ramfs or hugetlbfs, or on an overlay whose changes go to
/// one (as live systems and diskless nodes have it).
Status refuse_memory(const std::string& path);

/// EINVAL for a RAM disk, a zram device, and a loop device over a file in memory.
Status refuse_memory_device(dev_t device, const std::string& path);

}  // namespace farswap
