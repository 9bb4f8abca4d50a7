// What others may learn of memory that is outside: a debugger's or a core file's reads, which bring nothing
// in and change nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "farswap/request.h"
#include "swap/swap_area.h"
#include "target/proc.h"

namespace farswap {

/// What of a range may be outside.
struct OutsideRanges {
    std::vector<target::AddressRange>
        ranges;               ///< by their starts; with what may be on its way, again if need be
    std::uint64_t until = 0;  ///< how far they are complete
};

/// One read of neighbouring pages. `done` is called once, from the loop or from inside Pager::peek(); not at
/// all if the pager goes first.
struct Peek {
    static constexpr std::uint32_t kPagesMax = 16;
    struct Page {
        SlotFetch fetch;
        bool is_outside = false;  ///< its content was found; else the process itself has it, if anybody has
    };

    std::uint64_t address = 0;       ///< of the first page
    std::vector<Page> pages;         ///< at most kPagesMax
    std::vector<std::byte> content;  ///< kPageSize bytes a page, zeros where it is inside
    std::uint32_t waiting = 0;       ///< pages that are being read from stores
    int error = 0;                   ///< negative errno of the first page that cannot be had
    std::uint64_t failed_at = 0;     ///< and its address
    std::function<void(const Peek&)> done;
};

}  // namespace farswap
