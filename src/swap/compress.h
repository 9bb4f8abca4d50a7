// Compresses a page and expands it again. Knows bytes only.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "base/result.h"
#include "farswap/request.h"

namespace farswap {

enum class Compression : std::uint8_t { kOff, kLz4, kZstd };

inline constexpr std::array<std::string_view, 3> kCompressionNames{"off", "lz4", "zstd"};

constexpr std::string_view name_of(Compression compression) noexcept {
    return kCompressionNames[static_cast<std::size_t>(compression)];
}
/// The one of that name.
constexpr std::optional<Compression> compression_of(std::string_view name) noexcept {
    for (std::size_t i = 0; i < kCompressionNames.size(); ++i)
        if (kCompressionNames[i] == name) return static_cast<Compression>(i);
    return std::nullopt;
}

/// One thread. The same page gives the same bytes each time. Allocates nothing after create().
class Compressor {
  public:
    /// `locked`: what parts of pages are left in is locked in memory and in no core file; EPERM or ENOMEM
    /// where there is a limit on that. ENOMEM.
    static Result<std::unique_ptr<Compressor>> create(Compression compression, bool locked = false);
    ~Compressor();
    Compressor(const Compressor&) = delete;
    Compressor& operator=(const Compressor&) = delete;

    /// Bytes written to `into`, which has room for `most`; 0: the page does not get so small.
    std::uint32_t compress(const std::byte* page, std::byte* into, std::uint32_t most) noexcept;
    /// False: `from` is not what compress() made of a page; `page` holds nothing of use then. Nothing beyond
    /// `page` is written, whatever `from` holds.
    [[nodiscard]] bool expand(const std::byte* from, std::uint32_t length, std::byte* page) noexcept;

  private:
    struct State;
    explicit Compressor(std::unique_ptr<State> state) noexcept;
    std::unique_ptr<State> state_;
};

}  // namespace farswap
