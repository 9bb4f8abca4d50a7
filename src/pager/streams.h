// Recognises walks through memory among a process's faults: forwards and backwards, several at a time (a
// quicksort's partition has one of each). Pure.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "farswap/request.h"

namespace farswap {

/// One walk: what it was given last, and how much it gets the next time.
struct Stream {
    std::uint64_t low = 0, high = 0;  ///< addresses: the walk has been given [low, high)
    std::uint32_t window = 1;         ///< pages
    std::uint32_t used = 0;           ///< when, in faults
    bool backwards = false;
    bool established = false;  ///< its direction is known
    bool strides = false;      ///< it leaves pages out
};

class Streams {
  public:
    static constexpr std::uint32_t kWindowMax = 64;  ///< pages: the longest run of slots

    /// The walk that the fault at `address` belongs to, with the window that it gets now; a new one, with a
    /// window of one page, when it continues none. `skipped(start, end)` says whether any page there is out:
    /// a walk that has not wanted it goes in strides, and reading far ahead of it would mostly bring in what
    /// it passes by (a matrix product with rows of 8 pages: 10 times the reads).
    template <typename Skipped>
    const Stream& fault(std::uint64_t address, Skipped skipped) {
        ++now_;
        for (Stream& stream : streams_) {
            if (address >= stream.low && address < stream.high) return stream;  // tried again
            if (stream.high == 0 || !continues(stream, address)) continue;
            const bool ahead = address >= stream.high;
            const bool strides =
                ahead ? skipped(stream.high, address) : skipped(address + kPageSize, stream.low);
            stream.backwards = address < stream.low;
            stream.established = true;
            stream.strides |= strides;
            stream.window = std::min(stream.window * 2, stream.strides ? kStridingMax : kWindowMax);
            return begin(stream, address);
        }
        Stream& oldest = *std::min_element(streams_.begin(), streams_.end(),
                                           [](const Stream& a, const Stream& b) { return a.used < b.used; });
        oldest = {};
        return begin(oldest, address);
    }

    /// Whoever faulted at `address` has got [low, high), which holds it.
    void given(std::uint64_t address, std::uint64_t low, std::uint64_t high) {
        for (Stream& stream : streams_) {
            if (address < stream.low || address >= stream.high) continue;
            stream.low = low;
            stream.high = high;
            return;
        }
    }

  private:
    static constexpr std::uint64_t kGapMax = 16 * std::uint64_t{kPageSize};  ///< pages in between were there
    static constexpr std::uint32_t kStridingMax = 8;                         ///< pages
    static constexpr std::size_t kStreams = 8;

    static bool continues(const Stream& stream, std::uint64_t address) {
        const bool ahead = address >= stream.high && address - stream.high < kGapMax;
        const bool behind = address < stream.low && stream.low - address <= kGapMax;
        if (!stream.established) return ahead || behind;
        return stream.backwards ? behind : ahead;
    }

    Stream& begin(Stream& stream, std::uint64_t address) {
        stream.low = address;
        stream.high = address + kPageSize;
        stream.used = now_;
        return stream;
    }

    std::array<Stream, kStreams> streams_{};
    std::uint32_t now_ = 0;
};

}  // namespace farswap
