// The headers of a core file that comes through a pipe, whatever program wrote it: what is understood lies in
// order behind the headers, and of more than is asked for nothing is needed.
#include "cli/elf_core.h"
#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view head = farswap::fuzz::text_of(data, size);
    std::uint64_t needed = 0;
    const auto extents = farswap::cli::core_extents(head, needed);
    if (!extents) {
        PROMISE(extents.error().code == EINVAL || needed > head.size());
        return 0;
    }
    PROMISE(needed <= head.size());
    std::uint64_t end = needed;
    for (const auto& extent : *extents) {
        PROMISE(extent.bytes > 0 && extent.offset >= end && extent.offset + extent.bytes > extent.offset);
        PROMISE(extent.address + extent.bytes > extent.address);
        end = extent.offset + extent.bytes;
    }
    return 0;
}
