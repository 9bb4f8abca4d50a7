// How many calls may be under way to a server at a time. Knows how long answers take; no calls.
#pragma once

#include <array>
#include <cstdint>

#include "io/loop.h"

namespace farswap::nfs {

/// Grows by one for every window of answers that came in good time while it was full, up to what the tables
/// of calls hold. Shrinks by an eighth when answers take kInflated times as long as the fastest of late and
/// longer than kSlow: then calls wait for each other at the server, and a fault would wait for all of them.
/// Is halved when the server asks for patience, or does not answer at all. The additive increase and
/// multiplicative decrease of TCP (RFC 5681), on time instead of loss, as its delay-based kind does. One
/// thread.
class Window {
  public:
    explicit Window(std::uint32_t most) noexcept;

    std::uint32_t limit() const noexcept { return limit_; }
    /// An answer that took so long, `full`: the limit was reached when it came.
    void answered(std::chrono::nanoseconds took, bool full, io::Clock::time_point now) noexcept;
    /// The server said "try later", or was silent until a deadline.
    void refused(io::Clock::time_point now) noexcept;

    static constexpr std::uint32_t kLeast = 4, kFirst = 32;
    static constexpr std::chrono::milliseconds kSlow{20};
    static constexpr int kInflated = 8;

  private:
    void shrink(std::uint32_t to, io::Clock::time_point now) noexcept;
    std::chrono::nanoseconds fastest(std::chrono::nanoseconds took, io::Clock::time_point now) noexcept;

    const std::uint32_t most_;
    std::uint32_t limit_;
    std::uint32_t good_ = 0;  ///< answers in good time since the limit last changed
    io::Clock::time_point shrinks_again_{};
    /// The fastest answers of this span of kMemory and of the one before.
    std::array<std::chrono::nanoseconds, 2> fastest_;
    io::Clock::time_point span_end_{};
};

}  // namespace farswap::nfs
