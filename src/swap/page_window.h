// A few pages of memory in which such pages are shown that lie nowhere as they are. Knows numbers only.
#pragma once

#include <cstdint>

#include "farswap/request.h"
#include "page/mapping.h"

namespace farswap {

/// Numbers that follow each other have neighbouring pages, as pages of the cache have that came in together;
/// a page stays until kPages other numbers were asked for. Nothing lies next to the window: what is found
/// side by side belongs together, in each run of a program. One thread.
class PageWindow {
  public:
    static constexpr std::uint32_t kPages = 64;

    /// `locked`: EPERM or ENOMEM where it cannot be locked in memory.
    static Result<PageWindow> create(bool locked = false) {
        auto memory = Mapping::anonymous((kPages + 2) * kPageSize);
        if (!memory) return std::unexpected(std::move(memory.error()));
        if (const int error = locked ? memory->lock() : 0)
            return fail_errno(
                error,
                "cannot lock {} KiB of memory for pages on their way; raise the limit on locked "
                "memory (ulimit -l)",
                memory->size() / 1024);
        if (const int error = memory->populate()) return fail_errno(error, "no memory for a few pages");
        return PageWindow(std::move(*memory));
    }

    static constexpr std::uint32_t index(std::uint32_t number) noexcept { return number % kPages; }
    std::byte* page(std::uint32_t number) const noexcept {
        return memory_.data() + std::size_t{index(number) + 1} * kPageSize;
    }

  private:
    explicit PageWindow(Mapping memory) noexcept : memory_(std::move(memory)) {}

    Mapping memory_;
};

}  // namespace farswap
