// Pages that are all one word, made when they are looked at. Knows words and numbers only.
#pragma once

#include <array>
#include <cstdint>

#include "page/mapping.h"

namespace farswap {

/// A window of kPages pages, in which numbers that follow each other have neighbouring pages, as pages of the
/// cache have that came in together. One thread.
class FillPages {
  public:
    static constexpr std::uint32_t kPages = 64;

    static Result<FillPages> create();

    /// A page full of `word`. It stays until kPages other numbers have been asked for.
    const std::byte* page(std::uint32_t number, std::uint64_t word) noexcept;

  private:
    explicit FillPages(Mapping memory) noexcept : memory_(std::move(memory)) {}

    Mapping memory_;
    std::array<std::uint64_t, kPages> words_{};
};

}  // namespace farswap
