#include "target/pagemap.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "base/no_allocation.h"
#include "farswap/request.h"
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
    if (found < 0) {
        const MayAllocate sentence("the process has ended");
        return fail_errno(errno, "cannot scan the pages of a process");
    }
    PagemapScan result{static_cast<std::size_t>(found), scan.walk_end};
    for (std::size_t i = 0; i < result.count; i++) ranges[i] = {regions[i].start, regions[i].end};
    return result;
}

Result<PagemapScan> scan_shared_pages(int pagemap_fd, std::uint64_t start, std::uint64_t end,
                                      std::span<AddressRange> ranges) {
    constexpr std::uint64_t kExclusive = std::uint64_t{1} << 56;  // PM_MMAP_EXCLUSIVE
    constexpr std::uint64_t kPagesAtOnce = 4096;                  // 32 KiB of entries on the stack
    std::array<AddressRange, 1> present;
    auto scan = scan_pages(pagemap_fd, PageKind::kAnonymous, start, end, kPagesAtOnce, present);
    if (!scan || scan->count == 0) return scan;
    std::array<std::uint64_t, kPagesAtOnce> entries;
    const std::uint64_t wanted =
        std::min<std::uint64_t>((present[0].end - present[0].start) / kPageSize, entries.size());
    const auto offset = static_cast<off_t>(present[0].start / kPageSize * sizeof(std::uint64_t));
    const ssize_t got = pread(pagemap_fd, entries.data(), wanted * sizeof(std::uint64_t), offset);
    if (got < 0) return fail_errno(errno, "cannot read the pages of a process");
    PagemapScan result{0, present[0].start};
    for (std::size_t i = 0; i < static_cast<std::size_t>(got) / sizeof(std::uint64_t); i++) {
        const std::uint64_t page = present[0].start + i * kPageSize;
        const bool joins = result.count > 0 && ranges[result.count - 1].end == page;
        if ((entries[i] & kExclusive) == 0) {
            if (!joins && result.count == ranges.size()) return result;
            if (!joins) ranges[result.count++] = {page, page};
            ranges[result.count - 1].end = page + kPageSize;
        }
        result.walk_end = page + kPageSize;
    }
    return result;
}

std::uint64_t first_mapped(int pagemap_fd, std::uint64_t start, std::uint64_t end) {
    page_region region{};
    pm_scan_arg scan{};
    scan.size = sizeof scan;
    scan.start = start;
    scan.end = end;
    scan.vec = reinterpret_cast<std::uintptr_t>(&region);
    scan.vec_len = 1;
    scan.max_pages = 1;
    scan.category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED;
    scan.return_mask = PAGE_IS_PRESENT;
    return ioctl(pagemap_fd, PAGEMAP_SCAN, &scan) == 1 ? region.start : end;
}

std::uint64_t count_absent(int pagemap_fd, std::uint64_t start, std::uint64_t pages_max) {
    constexpr std::uint64_t kPresentOrMarker = std::uint64_t{3} << 62;  // PM_PRESENT, PM_SWAP
    std::array<std::uint64_t, 512> entries;
    const std::uint64_t wanted = std::min<std::uint64_t>(pages_max, entries.size());
    const auto offset = static_cast<off_t>(start / kPageSize * sizeof(std::uint64_t));
    const ssize_t got = pread(pagemap_fd, entries.data(), wanted * sizeof(std::uint64_t), offset);
    std::uint64_t count = 0;
    while (got > 0 && count < static_cast<std::uint64_t>(got) / sizeof(std::uint64_t) &&
           (entries[count] & kPresentOrMarker) == 0)
        count++;
    return count;
}

}  // namespace farswap::target
