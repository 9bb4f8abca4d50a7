#include "target/pagemap.h"

#include <sys/ioctl.h>

#include <array>

#include "target/uapi.h"

namespace farswap::target {

Result<PagemapScan> scan_pages(int pagemap_fd, PageKind kind, std::uint64_t start, std::uint64_t end,
                               std::uint64_t pages_max, std::span<AddressRange> ranges) {
    std::array<page_region, 64> regions;
    pm_scan_arg scan{};
    scan.size = sizeof scan;
    scan.start = start;
    scan.end = end;
    scan.vec = reinterpret_cast<std::uintptr_t>(regions.data());
    scan.vec_len = std::min(regions.size(), ranges.size());
    scan.max_pages = pages_max;
    scan.category_inverted = PAGE_IS_FILE | (kind == PageKind::kAnonymous ? PAGE_IS_PFNZERO : 0);
    scan.category_mask = PAGE_IS_PRESENT | PAGE_IS_FILE | PAGE_IS_PFNZERO;
    scan.return_mask = PAGE_IS_PRESENT;
    const int found = ioctl(pagemap_fd, PAGEMAP_SCAN, &scan);
    if (found < 0) return fail_errno(errno, "cannot scan the pages of a process");
    PagemapScan result{static_cast<std::size_t>(found), scan.walk_end};
    for (std::size_t i = 0; i < result.count; i++) ranges[i] = {regions[i].start, regions[i].end};
    return result;
}

}  // namespace farswap::target
