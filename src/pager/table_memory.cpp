#include "pager/table_memory.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/assert.h"

namespace farswap {
namespace {

// Unlike MADV_DONTNEED it takes locked memory, too (Linux 5.18, madvise(2)).
constexpr int kDropLocked = 24;
constexpr std::uint64_t kLeastBytes = std::uint64_t{64} << 20;
constexpr std::uint64_t kMostBytes = std::uint64_t{8} << 40;  // block numbers have 32 bits
constexpr std::uint64_t kPartOfALimit = 8;  // on addresses (ulimit -v): others need some, too
// Addresses that may be written count as memory where the kernel does not overcommit.
constexpr std::uint32_t kOpenedAtOnce = 1u << 14;
// What the events that are read in one round may need: tables of 8 GiB. A fork asks for its own.
constexpr std::uint32_t kAhead = 1u << 12;
constexpr std::uint32_t kDroppedAtLeast = 64;  // at once: neighbours go in one call
constexpr std::uint32_t kDroppedAtMost = 1024;
static_assert(TableMemory::kKeptMax > kDroppedAtLeast);

}  // namespace

std::uint64_t TableMemory::beyond_the_machine() noexcept {
    const long pages = ::sysconf(_SC_PHYS_PAGES);
    std::uint64_t bytes = 2 * static_cast<std::uint64_t>(std::max(pages, 1L)) * kPageSize;
    rlimit addresses{};
    if (::getrlimit(RLIMIT_AS, &addresses) == 0 && addresses.rlim_cur != RLIM_INFINITY)
        bytes = std::min<std::uint64_t>(bytes, addresses.rlim_cur / kPartOfALimit);
    return std::clamp(bytes, kLeastBytes, kMostBytes);
}

Result<std::unique_ptr<TableMemory>> TableMemory::create(std::uint64_t bytes_max) {
    // There may be less left.
    for (;; bytes_max /= 2) {
        const std::uint64_t blocks = bytes_max / kPageSize;
        void* memory = ::mmap(nullptr, blocks * kPageSize, PROT_NONE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory == MAP_FAILED && bytes_max > kLeastBytes) continue;
        if (memory == MAP_FAILED) return fail_errno(errno, "cannot reserve addresses for page tables");
        ::madvise(memory, blocks * kPageSize, MADV_NOHUGEPAGE);
        auto free = ZeroTable<std::uint32_t>::create(blocks);
        if (!free) {
            ::munmap(memory, blocks * kPageSize);
            return std::unexpected(std::move(free.error()));
        }
        return std::unique_ptr<TableMemory>(new TableMemory(
            static_cast<std::byte*>(memory), static_cast<std::uint32_t>(blocks), std::move(*free)));
    }
}

TableMemory::~TableMemory() {
    ::munmap(memory_, std::uint64_t{blocks_max_} * kPageSize);
}

bool TableMemory::open_more() noexcept {
    const std::uint32_t more = std::min(kOpenedAtOnce, blocks_max_ - opened_);
    if (more == 0 || ::mprotect(block(opened_), std::size_t{more} * kPageSize, PROT_READ | PROT_WRITE) != 0)
        return false;
    opened_ += more;
    return true;
}

bool TableMemory::make_room(std::uint64_t blocks) noexcept {
    while (free_count_ + (opened_ - next_) < blocks) {
        if (!open_more()) return false;
    }
    return true;
}

void* TableMemory::take() noexcept {
    if (free_count_ > 0) {
        const std::uint32_t number = free_[--free_count_];
        dropped_ = std::min(dropped_, free_count_);
        return block(number);
    }
    const bool has_one = next_ < opened_ || open_more();
    FARSWAP_ASSERT(has_one);
    return block(next_++);
}

void TableMemory::give(void* taken) noexcept {
    const auto number =
        static_cast<std::uint32_t>((static_cast<std::byte*>(taken) - memory_) / std::ptrdiff_t{kPageSize});
    FARSWAP_ASSERT(number < next_ && free_count_ < next_);
    free_[free_count_++] = number;
}

void TableMemory::keep_up() noexcept {
    is_short_ = !make_room(kAhead);
    const std::uint32_t kept = free_count_ - dropped_;
    if (kept <= kKeptMax) return;
    drop(dropped_, std::min(kept - (kKeptMax - kDroppedAtLeast), kDroppedAtMost));
}

/// Of the stack, from its place `first` on.
void TableMemory::drop(std::uint32_t first, std::uint32_t count) noexcept {
    std::uint32_t* const numbers = &free_[first];
    std::sort(numbers, numbers + count);
    for (std::uint32_t i = 0; i < count;) {
        std::uint32_t run = 1;
        while (i + run < count && numbers[i + run] == numbers[i] + run) run++;
        const int dropped = ::madvise(block(numbers[i]), std::size_t{run} * kPageSize, kDropLocked);
        FARSWAP_ASSERT(dropped == 0);
        i += run;
    }
    dropped_ += count;
}

}  // namespace farswap
