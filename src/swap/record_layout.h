// Where a slot's record lies on its store. The one place that knows how large a record is and what is in it.
#pragma once

#include <cstdint>

#include "farswap/request.h"

namespace farswap {

/// A record is a header and the page's payload; records lie one behind the other from the store's start. The
/// header is where a seal's tag and nonce go; there is none as long as pages leave in the clear.
struct RecordLayout {
    static constexpr std::uint32_t kHeaderBytes = 0;
    static constexpr std::uint32_t kRecordBytes = kHeaderBytes + kPageSize;

    /// `index` counts the store's own slots, from 0. Bytes from the store's start.
    static constexpr std::uint64_t offset(std::uint32_t index) noexcept {
        return std::uint64_t{index} * kRecordBytes;
    }
    /// Bytes of `count` neighbouring records.
    static constexpr std::uint32_t length(std::uint32_t count) noexcept { return count * kRecordBytes; }
    /// Records that fit completely into `bytes`.
    static constexpr std::uint64_t records_in(std::uint64_t bytes) noexcept { return bytes / kRecordBytes; }
};

}  // namespace farswap
