// The search for free runs. Knows numbers only.
#include "swap/slot_allocator.h"

#include <algorithm>
#include <bit>

#include "base/assert.h"

namespace farswap {
namespace {

constexpr std::uint64_t kFull = ~std::uint64_t{0};

/// The lowest `bit` bits.
constexpr std::uint64_t below(unsigned bit) noexcept {
    return (std::uint64_t{1} << bit) - 1;
}

}  // namespace

Result<SlotAllocator> SlotAllocator::create(std::uint32_t capacity) {
    // One word more than needed, so that a search never reads past the end.
    const std::size_t words = capacity / 64 + 1;
    Result<ZeroTable<std::uint64_t>> used = ZeroTable<std::uint64_t>::create(words);
    if (!used) return std::unexpected(std::move(used.error()));
    Result<ZeroTable<std::uint64_t>> full = ZeroTable<std::uint64_t>::create(words / 64 + 1);
    if (!full) return std::unexpected(std::move(full.error()));
    return SlotAllocator(std::move(*used), std::move(*full), capacity);
}

void SlotAllocator::extend(std::uint32_t limit) noexcept {
    FARSWAP_ASSERT(limit >= limit_ && limit <= capacity_);
    free_ += limit - limit_;
    limit_ = limit;
}

SlotAllocator::Run SlotAllocator::allocate(std::uint32_t count_max) noexcept {
    if (free_ == 0 || count_max == 0) return {};
    Run best;
    std::uint32_t at = cursor_;
    bool wrapped = false;
    for (int tries = 0; tries < kRunsTried && best.count < count_max; ++tries) {
        const Run run = find_run(at, count_max);
        if (run.count == 0) {
            if (wrapped) break;
            wrapped = true;
            at = 0;
            continue;
        }
        if (run.count > best.count) best = run;
        at = run.first + run.count;
        if (wrapped && at >= cursor_) break;
    }
    FARSWAP_ASSERT(best.count > 0);  // free_ says that there is one, and each try but the wrap finds one
    take(best);
    cursor_ = best.first + best.count;
    return best;
}

std::uint32_t SlotAllocator::allocate_lowest() noexcept {
    const std::uint32_t slot = find_free(lowest_);
    FARSWAP_ASSERT(slot < limit_);
    take({slot, 1});
    lowest_ = slot + 1;
    return slot;
}

void SlotAllocator::trim(Run run, std::uint32_t used) noexcept {
    FARSWAP_ASSERT(used <= run.count && cursor_ == run.first + run.count);
    for (std::uint32_t slot = run.first + used; slot < run.first + run.count; ++slot) release(slot);
    cursor_ = run.first + used;
}

void SlotAllocator::release(std::uint32_t slot) noexcept {
    FARSWAP_ASSERT(slot < limit_ && is_allocated(slot));
    const std::uint32_t word = slot / 64;
    used_[word] &= ~(std::uint64_t{1} << slot % 64);
    full_[word / 64] &= ~(std::uint64_t{1} << word % 64);
    ++free_;
    lowest_ = std::min(lowest_, slot);
}

/// The first free slot at or after `from`, or limit_.
std::uint32_t SlotAllocator::find_free(std::uint32_t from) const noexcept {
    if (from >= limit_) return limit_;
    std::uint32_t word = from / 64;
    const std::uint64_t first = used_[word] | below(from % 64);
    if (first != kFull)
        return std::min<std::uint32_t>(limit_, word * 64 + static_cast<unsigned>(std::countr_one(first)));
    ++word;
    const std::uint32_t words = limit_ / 64 + 1;
    std::uint32_t group = word / 64;
    std::uint64_t skip = below(word % 64);
    for (; group * 64 < words; ++group, skip = 0) {
        const std::uint64_t full = full_[group] | skip;
        if (full == kFull) continue;
        word = group * 64 + static_cast<unsigned>(std::countr_one(full));
        if (word >= words) break;
        return std::min<std::uint32_t>(limit_,
                                       word * 64 + static_cast<unsigned>(std::countr_one(used_[word])));
    }
    return limit_;
}

/// The first used slot at or after `from`, or `end`.
std::uint32_t SlotAllocator::find_used(std::uint32_t from, std::uint32_t end) const noexcept {
    std::uint32_t word = from / 64;
    std::uint64_t bits = used_[word] & ~below(from % 64);
    while (bits == 0) {
        ++word;
        if (std::uint64_t{word} * 64 >= end) return end;
        bits = used_[word];
    }
    return std::min<std::uint32_t>(end, word * 64 + static_cast<unsigned>(std::countr_zero(bits)));
}

SlotAllocator::Run SlotAllocator::find_run(std::uint32_t from, std::uint32_t count_max) const noexcept {
    const std::uint32_t first = find_free(from);
    if (first >= limit_) return {};
    const std::uint32_t end = first + std::min(count_max, limit_ - first);
    return {first, find_used(first, end) - first};
}

void SlotAllocator::take(Run run) noexcept {
    for (std::uint32_t slot = run.first; slot < run.first + run.count;) {
        const std::uint32_t word = slot / 64;
        const std::uint32_t bits = std::min(64 - slot % 64, run.first + run.count - slot);
        const std::uint64_t mask = (bits == 64 ? kFull : below(bits)) << slot % 64;
        FARSWAP_ASSERT((used_[word] & mask) == 0);
        used_[word] |= mask;
        if (used_[word] == kFull) full_[word / 64] |= std::uint64_t{1} << word % 64;
        slot += bits;
    }
    free_ -= run.count;
}

}  // namespace farswap
