// A set of addresses as sorted, disjoint ranges. Pure; no system call.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "base/no_allocation.h"
#include "target/proc.h"

namespace farswap::target {

/// Few ranges (mappings of a process), so a sorted vector; neighbours are merged unless added by add_apart().
class IntervalSet {
  public:
    void add(std::uint64_t start, std::uint64_t end) {
        if (start >= end) return;
        auto first =
            std::lower_bound(ranges_.begin(), ranges_.end(), start,
                             [](const AddressRange& range, std::uint64_t at) { return range.end < at; });
        auto last = first;
        while (last != ranges_.end() && last->start <= end) {
            start = std::min(start, last->start);
            end = std::max(end, last->end);
            ++last;
        }
        insert(ranges_.erase(first, last), {start, end});
    }

    /// Adds a range of its own, in place of what it overlaps: two mappings side by side stay two.
    void add_apart(std::uint64_t start, std::uint64_t end) {
        if (start >= end) return;
        remove(start, end);
        const auto behind =
            std::lower_bound(ranges_.begin(), ranges_.end(), start,
                             [](const AddressRange& range, std::uint64_t at) { return range.start < at; });
        insert(behind, {start, end});
    }

    void remove(std::uint64_t start, std::uint64_t end) {
        if (start >= end || ranges_.empty() || start >= ranges_.back().end) return;
        auto first =
            std::upper_bound(ranges_.begin(), ranges_.end(), start,
                             [](std::uint64_t at, const AddressRange& range) { return at < range.end; });
        auto last =
            std::lower_bound(first, ranges_.end(), end,
                             [](const AddressRange& range, std::uint64_t at) { return range.start < at; });
        if (first == last) return;
        const AddressRange before{first->start, start}, behind{end, (last - 1)->end};
        if (before.start < before.end && behind.start < behind.end && last - first == 1) {
            *first = before;
            insert(first + 1, behind);
            return;
        }
        if (before.start < before.end) *first++ = before;
        if (behind.start < behind.end) *--last = behind;
        ranges_.erase(first, last);
    }

    /// The range that holds `address`, or null.
    const AddressRange* find(std::uint64_t address) const {
        auto next =
            std::upper_bound(ranges_.begin(), ranges_.end(), address,
                             [](std::uint64_t at, const AddressRange& range) { return at < range.end; });
        return next != ranges_.end() && next->start <= address ? &*next : nullptr;
    }

    /// The parts of [start, end) that are not in the set.
    std::vector<AddressRange> missing(std::uint64_t start, std::uint64_t end) const {
        std::vector<AddressRange> parts;
        for (const AddressRange& range : ranges_) {
            if (range.end <= start) continue;
            if (range.start >= end) break;
            if (range.start > start) parts.push_back({start, range.start});
            start = std::max(start, range.end);
        }
        if (start < end) parts.push_back({start, end});
        return parts;
    }

    /// The parts of [start, end) that are in the set.
    std::vector<AddressRange> overlap(std::uint64_t start, std::uint64_t end) const {
        std::vector<AddressRange> parts;
        if (start >= end) return parts;
        for (const AddressRange& range : ranges_) {
            if (range.end <= start) continue;
            if (range.start >= end) break;
            parts.push_back({std::max(range.start, start), std::min(range.end, end)});
        }
        return parts;
    }

    void clear() { ranges_.clear(); }
    bool empty() const { return ranges_.empty(); }
    const std::vector<AddressRange>& ranges() const { return ranges_; }
    std::uint64_t bytes() const {
        std::uint64_t sum = 0;
        for (const AddressRange& range : ranges_) sum += range.end - range.start;
        return sum;
    }

  private:
    using Place = std::vector<AddressRange>::iterator;

    void insert(Place place, AddressRange range) {
        if (ranges_.size() == ranges_.capacity()) {
            const MayAllocate longer("more ranges than there have ever been: the program decides how many");
            const auto number = place - ranges_.begin();
            ranges_.reserve(std::max<std::size_t>(8, 2 * ranges_.capacity()));
            place = ranges_.begin() + number;
        }
        ranges_.insert(place, range);
    }

    std::vector<AddressRange> ranges_;
};

}  // namespace farswap::target
