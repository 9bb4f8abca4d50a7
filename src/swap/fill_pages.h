// Pages that are all one word, made when they are looked at. Knows words and numbers only.
#pragma once

#include <array>
#include <cstdint>

#include "swap/page_window.h"

namespace farswap {

/// One thread.
class FillPages {
  public:
    static Result<FillPages> create();

    /// A page full of `word`, in a PageWindow.
    const std::byte* page(std::uint32_t number, std::uint64_t word) noexcept;

  private:
    explicit FillPages(PageWindow window) noexcept : window_(std::move(window)) {}

    PageWindow window_;
    std::array<std::uint64_t, PageWindow::kPages> words_{};
};

}  // namespace farswap
