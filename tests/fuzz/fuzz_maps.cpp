// Lines of /proc/PID/maps, which hold the names of files: every part that is taken from a line lies within
// it.
#include <vector>

#include "fuzz.h"
#include "target/proc.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using farswap::target::Mapping;
    // In memory of its own, so that the address sanitizer sees a byte too many.
    const std::vector<char> line(data, data + size);
    Mapping mapping;
    if (!farswap::target::parse_mapping({line.data(), line.size()}, mapping)) return 0;
    PROMISE(mapping.name.size() <= line.size());
    PROMISE(mapping.name.empty() || mapping.name.data() + mapping.name.size() == line.data() + line.size());
    PROMISE(!mapping.name.starts_with(' '));
    return 0;
}
