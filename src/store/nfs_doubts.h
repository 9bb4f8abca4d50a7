// Which parts of a file a WRITE may still reach although its connection is gone. Knows ranges and times, no
// calls.
#pragma once

#include <array>
#include <cstdint>

#include "io/loop.h"

namespace farswap::nfs {

/// How long after its connection was lost a WRITE may still be executed. NFSv3 cannot tell: what the server
/// had read from the connection it executes when a thread of its own comes to it. Twice the time after which
/// a client of Linux sends a call again (nfs(5), timeo=600 for TCP), which is what servers' request queues
/// are made for; docs/decisions/0014.
inline constexpr std::chrono::seconds kLateWriteMax{120};

/// A fixed number of ranges. When they are more, the newest grows until it covers what comes: too much is in
/// doubt then, never too little. One thread.
class Doubts {
  public:
    /// [offset, offset + length) is in doubt until that time, which never decreases from call to call.
    void add(std::uint64_t offset, std::uint64_t length, io::Clock::time_point until) noexcept;
    bool overlap(std::uint64_t offset, std::uint64_t length, io::Clock::time_point now) const noexcept;
    bool empty() const noexcept { return count_ == 0; }
    /// Forgets what is over.
    void expire(io::Clock::time_point now) noexcept;

    static constexpr std::uint32_t kRangesMax = 512;

  private:
    struct Range {
        std::uint64_t begin = 0, end = 0;  ///< bytes
        io::Clock::time_point until;
    };
    Range& at(std::uint32_t index) noexcept { return ranges_[(first_ + index) % kRangesMax]; }
    const Range& at(std::uint32_t index) const noexcept { return ranges_[(first_ + index) % kRangesMax]; }

    std::array<Range, kRangesMax> ranges_;  ///< a ring, oldest first
    std::uint32_t first_ = 0, count_ = 0;
};

}  // namespace farswap::nfs
