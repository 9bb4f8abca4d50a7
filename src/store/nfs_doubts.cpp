// See nfs_doubts.h.
#include "store/nfs_doubts.h"

#include <algorithm>

namespace farswap::nfs {

void Doubts::add(std::uint64_t offset, std::uint64_t length, io::Clock::time_point until) noexcept {
    const std::uint64_t end = offset + length;
    if (count_ > 0) {
        Range& newest = at(count_ - 1);
        const bool touches = offset <= newest.end && newest.begin <= end;
        if ((touches && newest.until == until) || count_ == kRangesMax) {
            newest = {std::min(newest.begin, offset), std::max(newest.end, end),
                      std::max(newest.until, until)};
            return;
        }
    }
    ++count_;
    at(count_ - 1) = {offset, end, until};
}

bool Doubts::overlap(std::uint64_t offset, std::uint64_t length, io::Clock::time_point now) const noexcept {
    for (std::uint32_t i = 0; i < count_; ++i) {
        const Range& range = at(i);
        if (range.until > now && range.begin < offset + length && offset < range.end) return true;
    }
    return false;
}

void Doubts::expire(io::Clock::time_point now) noexcept {
    while (count_ > 0 && at(0).until <= now) {
        first_ = (first_ + 1) % kRangesMax;
        --count_;
    }
}

}  // namespace farswap::nfs
