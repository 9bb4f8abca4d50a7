// Recognises walks through memory among a process's faults: forwards and backwards, page by page and in
// strides (a column of a matrix), several at a time (a quicksort's partition has one of each). Pure.
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
    bool established = false;   ///< its direction is known
    bool strides = false;       ///< it leaves pages out
    std::uint64_t last = 0;     ///< address of its last fault
    std::int64_t stride = 0;    ///< bytes from the fault before that one; 0: not known
    std::uint32_t repeats = 0;  ///< how often it has been the same since
    std::uint32_t depth = 0;    ///< how many strides ahead are to be read, if it is a walk in equal strides

    std::uint64_t strided_to(std::uint32_t strides_ahead) const {
        return last + static_cast<std::uint64_t>(stride * static_cast<std::int64_t>(strides_ahead));
    }
};

class Streams {
  public:
    static constexpr std::uint32_t kWindowMax = 64;  ///< pages: the longest run of slots
    static constexpr std::uint32_t kDepthMax = 16;   ///< strides: what a disk answers at once

    /// The walk that the fault at `address` belongs to, with the window that it gets now; a new one, with a
    /// window of one page, when it continues none. `skipped(start, end)` says whether any page there is out:
    /// a walk that has not wanted it goes in strides, and reading far ahead of it would mostly bring in what
    /// it passes by (a matrix product with rows of 8 pages: 10 times the reads). Where its strides are equal,
    /// what lies so many strides ahead is read instead of neighbours. Of two such walks with strides above
    /// kGapMax that take turns neither is recognised: which fault follows which is not known.
    template <typename Skipped>
    const Stream& fault(std::uint64_t address, Skipped skipped) {
        ++now_;
        for (Stream& stream : streams_) {
            if (address >= stream.low && address < stream.high) return stream;  // tried again
            if (stream.high == 0) continue;
            const bool is_near = continues(stream, address);
            if (!is_near && (stream.stride == 0 || address != stream.strided_to(1))) continue;
            const bool ahead = address >= stream.high;
            const bool strides = !is_near || (ahead ? skipped(stream.high, address)
                                                    : skipped(address + kPageSize, stream.low));
            stream.backwards = address < stream.low;
            stream.established = true;
            note_skip(stream, address, strides);
            stream.window = std::min(stream.window * 2, stream.strides ? kStridingMax : kWindowMax);
            go_in_strides(stream, address);
            return begin(stream, address);
        }
        Stream& oldest = *std::min_element(streams_.begin(), streams_.end(),
                                           [](const Stream& a, const Stream& b) { return a.used < b.used; });
        oldest = {};
        // Perhaps the second step of a walk in large strides.
        const std::uint64_t distance = std::max(address, last_) - std::min(address, last_);
        if (distance < kStrideMax) oldest.stride = static_cast<std::int64_t>(address - last_);
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
    static constexpr std::uint64_t kStrideMin =
        3 * std::uint64_t{kPageSize};  ///< below, neighbours do as well
    static constexpr std::uint64_t kStrideMax = std::uint64_t{64} << 20;
    static constexpr std::uint32_t kRepeatsMin = 2;

    static bool continues(const Stream& stream, std::uint64_t address) {
        const bool ahead = address >= stream.high && address - stream.high < kGapMax;
        const bool behind = address < stream.low && stream.low - address <= kGapMax;
        if (!stream.established) return ahead || behind;
        return stream.backwards ? behind : ahead;
    }

    /// One skip makes a walk one in strides, but not for ever. With windows of equal size such a walk looks
    /// like one in strides of that size, and is given single pages then; if it wants the very next one all
    /// the same, it takes page by page.
    static void note_skip(Stream& stream, std::uint64_t address, bool skips) {
        const bool is_next = address == stream.high || address + kPageSize == stream.low;
        if (stream.strides && stream.depth > 0 && is_next) {
            stream.strides = false;
            stream.window = kStridingMax;
        }
        stream.strides |= skips;
    }

    /// Whether the fault at `address` is one more equal stride, and what that is worth.
    static void go_in_strides(Stream& stream, std::uint64_t address) {
        const auto stride = static_cast<std::int64_t>(address - stream.last);
        stream.repeats = stride == stream.stride ? stream.repeats + 1 : 0;
        stream.stride = stride;
        const bool is_long = static_cast<std::uint64_t>(stride < 0 ? -stride : stride) >= kStrideMin;
        if (!stream.strides || !is_long || stream.repeats < kRepeatsMin) {
            stream.depth = 0;
            return;
        }
        stream.window = 1;
        stream.depth = std::clamp(stream.depth * 2, 2u, kDepthMax);
    }

    Stream& begin(Stream& stream, std::uint64_t address) {
        last_ = stream.last = address;
        stream.low = address;
        stream.high = address + kPageSize;
        stream.used = now_;
        return stream;
    }

    std::array<Stream, kStreams> streams_{};
    std::uint32_t now_ = 0;
    std::uint64_t last_ = 0;  ///< of all faults
};

}  // namespace farswap
