// See nbd_late_writes.h.
#include "store/nbd_late_writes.h"

#include <xxhash.h>

#include <algorithm>

namespace farswap::nbd {
namespace {

std::uint64_t hash_of(std::span<const std::byte> bytes) noexcept {
    return XXH3_64bits(bytes.data(), bytes.size());
}

}  // namespace

void LateWrites::note(std::uint64_t offset, std::span<const std::byte> bytes,
                      Clock::time_point now) noexcept {
    last_ = now + late_max_;
    const std::uint64_t hash = hash_of(bytes), end = offset + bytes.size();
    Entry* place = nullptr;
    for (Entry& entry : entries_) {
        if (entry.begin == offset && entry.end == end && entry.hash == hash && !entry.merged)
            return void(entry.until = last_);
        if (entry.until <= now) place = &entry;
    }
    if (place != nullptr) {
        *place = {offset, end, hash, false, last_};
        return;
    }
    Entry& entry = entries_.back();
    entry = {std::min(entry.begin, offset), std::max(entry.end, end), 0, true, last_};
}

LateWrites::Clock::time_point LateWrites::blocked_until(std::uint64_t offset,
                                                        std::span<const std::byte> bytes,
                                                        Clock::time_point now) noexcept {
    Clock::time_point until = now;
    if (now >= last_) return until;
    const std::uint64_t end = offset + bytes.size();
    for (const Entry& entry : entries_) {
        if (entry.until <= until || entry.begin >= end || offset >= entry.end) continue;
        const bool same =
            entry.begin == offset && entry.end == end && !entry.merged && entry.hash == hash_of(bytes);
        if (!same) until = entry.until;
    }
    return until;
}

bool LateWrites::may_hit(std::uint64_t offset, std::uint64_t length, Clock::time_point now) const noexcept {
    if (now >= last_) return false;
    return std::ranges::any_of(entries_, [&](const Entry& entry) {
        return entry.until > now && entry.begin < offset + length && offset < entry.end;
    });
}

}  // namespace farswap::nbd
