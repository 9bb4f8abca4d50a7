// See packed_pages.h.
#include "swap/packed_pages.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <optional>

#include "base/assert.h"

namespace farswap {
namespace {

// Unlike MADV_DONTNEED it takes locked memory, too (Linux 5.18, madvise(2)).
constexpr int kDropLocked = 24;

}  // namespace

Result<PackedPages> PackedPages::create(std::uint64_t limit) {
    std::array<Length, kUnitsPerBlock> lengths;
    for (std::uint32_t units = 1; units <= kUnitsPerBlock; ++units) {
        const std::uint64_t most =
            std::min<std::uint64_t>(limit / (units * kUnitBytes) + kSlab, kNone - kSlab);
        const std::uint64_t count = most / kSlab * kSlab;
        auto memory = ZeroTable<std::byte>::create(count * units * kUnitBytes);
        if (!memory) return std::unexpected(std::move(memory.error()));
        // A slab gives its memory back page by page.
        ::madvise(&(*memory)[0], memory->size(), MADV_NOHUGEPAGE);
        auto numbers = SlotAllocator::create(static_cast<std::uint32_t>(count));
        if (!numbers) return std::unexpected(std::move(numbers.error()));
        lengths[units - 1] = {std::move(*memory), std::move(*numbers)};
    }
    return PackedPages(std::move(lengths), limit);
}

std::uint32_t PackedPages::add(const std::byte* record, std::uint32_t units) noexcept {
    FARSWAP_ASSERT(units > 0 && units <= kUnitsPerBlock);
    const std::size_t length = std::size_t{units} * kUnitBytes;
    if (length > limit_ - bytes_) return kNone;
    Length& own = lengths_[units - 1];
    if (own.numbers.free() == 0) own.numbers.extend(own.numbers.limit() + kSlab);
    const std::uint32_t number = own.numbers.allocate_lowest();
    std::memcpy(&own.memory[number * length], record, length);
    bytes_ += length;
    ++records_;
    if (bytes_ > bytes_peak_) {
        bytes_peak_ = bytes_;
        records_at_peak_ = records_;
    }
    return number;
}

const std::byte* PackedPages::record(std::uint32_t number, std::uint32_t units) const noexcept {
    const Length& own = lengths_[units - 1];
    FARSWAP_ASSERT(own.numbers.is_allocated(number));
    return &own.memory[std::size_t{number} * units * kUnitBytes];
}

void PackedPages::remove(std::uint32_t number, std::uint32_t units) noexcept {
    Length& own = lengths_[units - 1];
    own.numbers.release(number);
    bytes_ -= std::uint64_t{units} * kUnitBytes;
    --records_;
    const std::uint32_t slab = number / kSlab * kSlab;
    if (own.numbers.any_allocated(slab, kSlab)) return;
    const std::size_t slab_bytes = std::size_t{kSlab} * units * kUnitBytes;
    const int dropped =
        ::madvise(&own.memory[std::size_t{slab} * units * kUnitBytes], slab_bytes, kDropLocked);
    FARSWAP_ASSERT(dropped == 0);
}

}  // namespace farswap
