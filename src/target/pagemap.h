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

/// The same for private anonymous pages that other processes map, too: what a write would copy.
Result<PagemapScan> scan_shared_pages(int pagemap_fd, std::uint64_t start, std::uint64_t end,
                                      std::span<AddressRange> ranges);

/// The first page of [start, end) that has memory, the zero page or a marker mapped; `end` if there is none,
/// or the process is gone.
std::uint64_t first_mapped(int pagemap_fd, std::uint64_t start, std::uint64_t end);

/// How many pages from `start` on, `pages_max` at most, have nothing mapped: neither memory nor a marker such
/// as that of a guard, which a fill would overwrite. 0 when that cannot be told.
std::uint64_t count_absent(int pagemap_fd, std::uint64_t start, std::uint64_t pages_max);

}  // namespace farswap::target
