// See fill_pages.h.
#include "swap/fill_pages.h"

#include <algorithm>

#include "farswap/request.h"

namespace farswap {

Result<FillPages> FillPages::create() {
    Result<Mapping> memory = Mapping::anonymous(kPages * kPageSize);
    if (!memory) return std::unexpected(std::move(memory.error()));
    if (const int error = memory->populate()) return fail_errno(error, "no memory for a few pages");
    return FillPages(std::move(*memory));
}

const std::byte* FillPages::page(std::uint32_t number, std::uint64_t word) noexcept {
    const std::uint32_t index = number % kPages;
    std::byte* page = memory_.data() + std::size_t{index} * kPageSize;
    if (words_[index] != word) {
        words_[index] = word;
        std::fill_n(reinterpret_cast<std::uint64_t*>(page), kPageSize / sizeof word, word);
    }
    return page;
}

}  // namespace farswap
