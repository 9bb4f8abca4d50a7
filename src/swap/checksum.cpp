// Calls xxHash, in the variant that suits this processor where the library can choose at run time.
#include "swap/checksum.h"

#include <xxhash.h>
#if defined(__x86_64__) && __has_include(<xxh_x86dispatch.h>)
#include <xxh_x86dispatch.h>  // makes XXH3_64bits_withSeed the dispatched one
#endif

#include "farswap/request.h"

namespace farswap {

std::uint64_t page_checksum(const std::byte* page, std::uint64_t seed) noexcept {
    return XXH3_64bits_withSeed(page, kPageSize, seed);
}

}  // namespace farswap
