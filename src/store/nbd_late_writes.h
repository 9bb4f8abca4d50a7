// Writes whose fate is unknown: their connection was lost, and the server may still execute them. Knows
// ranges, contents' hashes and times; nothing of requests.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <span>

namespace farswap::nbd {

class LateWrites {
  public:
    using Clock = std::chrono::steady_clock;

    /// A server whose connection is gone may take so long with what it had read of it.
    static constexpr std::chrono::seconds kLateMax{45};

    explicit LateWrites(std::chrono::nanoseconds late_max = kLateMax) noexcept : late_max_(late_max) {}

    /// `bytes` were on their way to `offset` when the connection was lost.
    void note(std::uint64_t offset, std::span<const std::byte> bytes, Clock::time_point now) noexcept;
    /// Until when other bytes than those on their way must not be written there; `now` or earlier: no longer,
    /// or never. The same bytes at the same place do no harm, whichever of them comes last.
    Clock::time_point blocked_until(std::uint64_t offset, std::span<const std::byte> bytes,
                                    Clock::time_point now) noexcept;

    /// Whether any such write may still come to the range.
    bool may_hit(std::uint64_t offset, std::uint64_t length, Clock::time_point now) const noexcept;

  private:
    struct Entry {
        std::uint64_t begin = 0, end = 0;  ///< bytes; empty: free
        std::uint64_t hash = 0;            ///< of the bytes
        bool merged = false;               ///< several writes: no hash tells what is on its way
        Clock::time_point until{};
    };
    static constexpr std::size_t kEntriesMax = 512;  ///< more are merged

    std::chrono::nanoseconds late_max_;
    Clock::time_point last_{};  ///< when all are over
    std::array<Entry, kEntriesMax> entries_;
};

}  // namespace farswap::nbd
