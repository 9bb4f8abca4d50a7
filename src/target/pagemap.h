// Which pages of a process are in memory: the PAGEMAP_SCAN ioctl (Linux 6.7,
// Documentation/admin-guide/mm/pagemap.rst).
#pragma once

#include <cstdint>
#include <span>

#include "base/result.h"
#include "target/proc.h"

namespace farswap::target {

struct PagemapScan {
    std::size_t count = 0;       ///< ranges filled in
    std::uint64_t walk_end = 0;  ///< how far the scan went
};

enum class PageKind {
    kAnonymous,  ///< private anonymous memory that is present and the process's own: what RssAnon counts
    kZeroPage,   ///< the kernel's one page of zeros, mapped where memory was read before it was ever written
};

/// Finds ranges of pages of that kind in [start, end), at most `pages_max` pages. `pagemap_fd` is of
/// /proc/PID/pagemap.
Result<PagemapScan> scan_pages(int pagemap_fd, PageKind kind, std::uint64_t start, std::uint64_t end,
                               std::uint64_t pages_max, std::span<AddressRange> ranges);

}  // namespace farswap::target
