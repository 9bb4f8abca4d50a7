// How much of a range a MOVE has really taken. Pure.
#pragma once

#include <cstdint>

#include "farswap/request.h"
#include "target/agent_protocol.h"

namespace farswap {

/// Bytes from the start of the range. A MOVE that ends with an error may have taken a page more than it says:
/// seen with EEXIST on Linux 6.18, which found its own page at the destination when it tried the same page
/// again. A page that is gone at its source and present in staging (which is empty before a MOVE) has been
/// moved, whatever the answer says; to drop it there would lose it. `is_present(address)` looks into the page
/// tables.
template <typename IsPresent>
std::uint64_t moved_bytes(const agent_range& range, const agent_result& result, IsPresent is_present) {
    std::uint64_t moved = result.moved;
    if (result.error == 0 || result.probed != 0) return moved;
    while (moved < range.len && is_present(range.dst + moved) && !is_present(range.src + moved))
        moved += kPageSize;
    return moved;
}

}  // namespace farswap
