// What the fuzz targets share: the entry point's declaration, promises that end the run, and input taken
// apart.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/assert.h"

/// libFuzzer's entry point: https://llvm.org/docs/LibFuzzer.html#fuzz-target
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

/// What has to hold for every input. A broken one aborts, which libFuzzer takes as a finding.
#define PROMISE(expression) FARSWAP_ASSERT(expression)

namespace farswap::fuzz {

inline std::string_view text_of(const std::uint8_t* data, std::size_t size) {
    return {reinterpret_cast<const char*>(data), size};
}

/// Takes what stands before the next `mark` off the front of `rest`; all of it where there is none.
inline std::string_view take_until(std::string_view& rest, char mark) {
    const std::size_t at = rest.find(mark);
    const std::string_view part = rest.substr(0, at);
    rest = at == std::string_view::npos ? std::string_view{} : rest.substr(at + 1);
    return part;
}

}  // namespace farswap::fuzz
