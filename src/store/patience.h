// How long a connection's oldest call may be without an answer. Knows numbers of ticks; neither calls nor
// clocks.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace farswap {

/// After so long the client of Linux sends a call again (nfs(5), timeo=600 over TCP).
inline constexpr std::chrono::milliseconds kSilenceMax{60'000};

/// A server may lose a call without a word: RFC 5531 leaves it to the client to ask again, and NFS servers do
/// lose some that they have no memory for, or that they take for a repetition; NBD's protocol says nothing of
/// it. It may as well be slow: a disk that hangs, or a COMMIT of gigabytes, and asking again is no help then.
/// So the limit doubles whenever it is reached, up to ten times the first (nfs(5): 600 s), and is the first
/// again when for that long no call has been without an answer for a quarter of it.
///
/// Time is counted in ticks of the loop, so that a process that was stopped does not take its own absence for
/// the server's: it lacks one tick, whose answers it finds in the socket before the next.
class Patience {
  public:
    static constexpr std::uint32_t kFirst = 16, kMost = 10 * kFirst;  ///< ticks

    explicit Patience(std::chrono::milliseconds first) noexcept
        : tick_(std::max<std::chrono::nanoseconds>(first, std::chrono::milliseconds(1)) / kFirst) {}

    /// How long a tick is; they are counted while calls are under way.
    std::chrono::nanoseconds tick() const noexcept { return tick_; }
    /// A tick has passed, and the oldest call has been without an answer for so many. True: for too long.
    bool over(std::uint32_t age) noexcept {
        calm_ = age > kFirst / 4 ? 0 : calm_ + 1;
        if (calm_ >= kFirst) limit_ = kFirst;
        if (age <= limit_) return false;
        limit_ = std::min(limit_ * 2, kMost);
        return true;
    }

  private:
    const std::chrono::nanoseconds tick_;
    std::uint32_t limit_ = kFirst;  ///< ticks
    std::uint32_t calm_ = 0;        ///< ticks in a row at which no call was old
};

}  // namespace farswap
