// The form of an ELF core file: headers, notes, where memory lies in it (core(5), elf(5)). Pure: no process,
// no file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace farswap::cli {

/// A mapping in a core file. Addresses are page-aligned.
struct CoreSegment {
    std::uint64_t start = 0, end = 0;
    std::uint32_t flags = 0;   ///< PF_R, PF_W, PF_X
    bool has_content = false;  ///< false: the file says only that the mapping was there
};

/// Appends a note to `notes`, padded to 4 bytes.
void append_note(std::string& notes, std::string_view owner, std::uint32_t type,
                 std::span<const std::byte> content);

/// All of a core file of this machine (x86-64) that comes before the content of memory, a multiple of the
/// page size: the contents of the segments that have one follow it in their order. EFBIG: more segments than
/// the format has numbers for.
Result<std::string> core_head(std::string_view notes, std::span<const CoreSegment> segments);

/// A part of a core file that is memory of the process.
struct CoreExtent {
    std::uint64_t offset = 0;   ///< bytes, in the file
    std::uint64_t address = 0;  ///< in the process
    std::uint64_t bytes = 0;
};
/// Where the content of memory lies in a core file that begins with `head`, ascending in the file. EAGAIN:
/// more of the beginning is needed, at least `bytes_needed` in all. EINVAL: it is no core file of a 64-bit
/// program, or not in an order in which it can be read from a pipe.
Result<std::vector<CoreExtent>> core_extents(std::string_view head, std::uint64_t& bytes_needed);

}  // namespace farswap::cli
