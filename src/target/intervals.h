// A set of addresses as sorted, disjoint ranges. Pure; no system call.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

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
        first = ranges_.erase(first, last);
        ranges_.insert(first, {start, end});
    }

    /// Adds a range of its own, in place of what it overlaps: two mappings side by side stay two.
    void add_apart(std::uint64_t start, std::uint64_t end) {
        if (start >= end) return;
        remove(start, end);
        const auto behind =
            std::lower_bound(ranges_.begin(), ranges_.end(), start,
                             [](const AddressRange& range, std::uint64_t at) { return range.start < at; });
        ranges_.insert(behind, {start, end});
    }

    void remove(std::uint64_t start, std::uint64_t end) {
        if (start >= end || ranges_.empty() || start >= ranges_.back().end) return;
        std::vector<AddressRange> kept;
        kept.reserve(ranges_.size() + 1);
        for (const AddressRange& range : ranges_) {
            if (range.end <= start || range.start >= end) {
                kept.push_back(range);
                continue;
            }
            if (range.start < start) kept.push_back({range.start, start});
            if (range.end > end) kept.push_back({end, range.end});
        }
        ranges_ = std::move(kept);
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
    std::vector<AddressRange> ranges_;
};

}  // namespace farswap::target
