// See packed_pages.h.
#include "swap/packed_pages.h"

#include <sys/mman.h>

#include <algorithm>
#include <optional>

#include "base/assert.h"

namespace farswap {
namespace {

// Unlike MADV_DONTNEED it takes locked memory, too (Linux 5.18, madvise(2)).
constexpr int kDropLocked = 24;

}  // namespace

Result<PackedPages> PackedPages::create(std::uint64_t most, With with, std::uint32_t records_max) {
    FARSWAP_ASSERT(records_max >= kSlab && records_max <= kRecordsMax);
    std::array<Length, kUnitsPerBlock> lengths;
    for (std::uint32_t units = 1; units <= kUnitsPerBlock; ++units) {
        const std::uint64_t fit = std::min<std::uint64_t>(most / (units * kUnitBytes) + kSlab, records_max);
        const std::uint64_t count = fit / kSlab * kSlab;
        auto memory = ZeroTable<std::byte>::create(count * units * kUnitBytes);
        if (!memory) return std::unexpected(std::move(memory.error()));
        // A slab gives its memory back page by page.
        ::madvise(&(*memory)[0], memory->size(), MADV_NOHUGEPAGE);
        auto numbers = SlotAllocator::create(static_cast<std::uint32_t>(count));
        if (!numbers) return std::unexpected(std::move(numbers.error()));
        auto entries = ZeroTable<Entry>::create(with.notes ? count : 0);
        if (!entries) return std::unexpected(std::move(entries.error()));
        auto seals = ZeroTable<MemorySeal>::create(with.seals ? count : 0);
        if (!seals) return std::unexpected(std::move(seals.error()));
        lengths[units - 1] = {std::move(*memory), std::move(*numbers), std::move(*entries),
                              std::move(*seals)};
    }
    return PackedPages(std::move(lengths), most, with);
}

std::uint32_t PackedPages::add(std::uint32_t units, const Note& note) noexcept {
    FARSWAP_ASSERT(units > 0 && units <= kUnitsPerBlock);
    const std::size_t length = std::size_t{units} * kUnitBytes;
    if (bytes_ + length > limit_) return kNone;
    Length& own = lengths_[units - 1];
    if (own.numbers.free() == 0) {
        if (own.numbers.limit() == own.numbers.capacity()) return kNone;
        own.numbers.extend(own.numbers.limit() + kSlab);
    }
    const std::uint32_t number = own.numbers.allocate_lowest();
    bytes_ += length;
    ++records_;
    if (bytes_ > bytes_peak_) {
        bytes_peak_ = bytes_;
        records_at_peak_ = records_;
    }
    if (with_.notes) {
        entry(handle_of(number, units)).note = note;
        append(handle_of(number, units));
    }
    return number;
}

std::byte* PackedPages::record(std::uint32_t number, std::uint32_t units) noexcept {
    Length& own = lengths_[units - 1];
    FARSWAP_ASSERT(own.numbers.is_allocated(number));
    return &own.memory[std::size_t{number} * units * kUnitBytes];
}

MemorySeal& PackedPages::seal(std::uint32_t number, std::uint32_t units) noexcept {
    FARSWAP_ASSERT(with_.seals && lengths_[units - 1].numbers.is_allocated(number));
    return lengths_[units - 1].seals[number];
}

void PackedPages::remove(std::uint32_t number, std::uint32_t units) noexcept {
    Length& own = lengths_[units - 1];
    if (with_.notes) unlink(handle_of(number, units));
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

const PackedPages::Note& PackedPages::note(std::uint32_t number, std::uint32_t units) const noexcept {
    FARSWAP_ASSERT(with_.notes && lengths_[units - 1].numbers.is_allocated(number));
    return entry(handle_of(number, units)).note;
}

void PackedPages::renew(std::uint32_t number, std::uint32_t units) noexcept {
    FARSWAP_ASSERT(with_.notes && lengths_[units - 1].numbers.is_allocated(number));
    unlink(handle_of(number, units));
    append(handle_of(number, units));
}

std::uint32_t PackedPages::age(std::uint32_t number, std::uint32_t units) const noexcept {
    FARSWAP_ASSERT(with_.notes && lengths_[units - 1].numbers.is_allocated(number));
    return came_ - entry(handle_of(number, units)).came;
}

void PackedPages::append(Handle handle) noexcept {
    Entry& own = entry(handle);
    own.older = newest_;
    own.newer = 0;
    own.came = ++came_;
    (newest_ == 0 ? oldest_ : entry(newest_).newer) = handle;
    newest_ = handle;
}

void PackedPages::unlink(Handle handle) noexcept {
    const Entry& own = entry(handle);
    (own.older == 0 ? oldest_ : entry(own.older).newer) = own.newer;
    (own.newer == 0 ? newest_ : entry(own.newer).older) = own.older;
}

}  // namespace farswap
