#include "memory/range_allocator.h"

#include <iterator>
#include <utility>

#include "base/assert.h"

namespace farswap {

RangeAllocator::RangeAllocator(std::uint64_t pages) : free_pages_(pages) {
    free_.emplace(0, pages);
}

std::optional<std::uint64_t> RangeAllocator::take(std::uint64_t count) {
    for (auto gap = free_.begin(); gap != free_.end(); ++gap) {
        const auto [first, pages] = *gap;
        if (pages < count) continue;
        if (pages == count) {
            free_.erase(gap);
        } else {
            // Its key changes, and nothing is allocated for that.
            auto rest = free_.extract(gap);
            rest.key() = first + count;
            rest.mapped() = pages - count;
            free_.insert(std::move(rest));
        }
        free_pages_ -= count;
        return first;
    }
    return std::nullopt;
}

void RangeAllocator::give_back(std::uint64_t first, std::uint64_t count) {
    auto behind = free_.lower_bound(first);
    FARSWAP_ASSERT(behind == free_.end() || behind->first >= first + count);
    auto gap = behind == free_.begin() ? free_.end() : std::prev(behind);
    if (gap != free_.end()) FARSWAP_ASSERT(gap->first + gap->second <= first);
    if (gap != free_.end() && gap->first + gap->second == first) {
        gap->second += count;
    } else {
        gap = free_.emplace_hint(behind, first, count);
    }
    if (behind != free_.end() && behind->first == first + count) {
        gap->second += behind->second;
        free_.erase(behind);
    }
    free_pages_ += count;
}

}  // namespace farswap
