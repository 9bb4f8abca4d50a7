// See fill_pages.h.
#include "swap/fill_pages.h"

#include <algorithm>

namespace farswap {

Result<FillPages> FillPages::create() {
    auto window = PageWindow::create();
    if (!window) return std::unexpected(std::move(window.error()));
    return FillPages(std::move(*window));
}

const std::byte* FillPages::page(std::uint32_t number, std::uint64_t word) noexcept {
    std::byte* const page = window_.page(number);
    std::uint64_t& shown = words_[PageWindow::index(number)];
    if (shown != word) {
        shown = word;
        std::fill_n(reinterpret_cast<std::uint64_t*>(page), kPageSize / sizeof word, word);
    }
    return page;
}

}  // namespace farswap
