// XDR (RFC 4506) as far as NFS needs it: a writer and a reader over memory that never go beyond it. Knows no
// protocol.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace farswap::xdr {

/// Zero bytes that XDR wants behind `length` bytes of opaque data.
constexpr std::uint32_t padding(std::uint32_t length) noexcept {
    return (4 - length % 4) % 4;
}
inline constexpr std::array<std::byte, 3> kPadding{};  ///< the most that is wanted

std::uint32_t load_u32(const std::byte* from) noexcept;  ///< big-endian

/// Room that is too small is a mistake of the caller's, and asserted.
class Writer {
  public:
    explicit Writer(std::span<std::byte> out) noexcept : out_(out) {}
    void u32(std::uint32_t value) noexcept;
    void u64(std::uint64_t value) noexcept;
    /// Variable-length opaque data: length, bytes, padding.
    void opaque(const void* data, std::uint32_t size) noexcept;
    /// Fixed-length opaque data whose size is a multiple of four, or what has been encoded already.
    void raw(const void* data, std::size_t size) noexcept;
    std::uint32_t size() const noexcept { return at_; }  ///< bytes written

  private:
    std::span<std::byte> out_;
    std::uint32_t at_ = 0;
};

/// Reads past the end give zeros and nothing, and are remembered: the caller asks once, at the end.
class Reader {
  public:
    explicit Reader(std::span<const std::byte> in) noexcept : in_(in) {}
    std::uint32_t u32() noexcept;
    std::uint64_t u64() noexcept;
    /// The bytes of variable-length opaque data; longer ones than `most` count as beyond the end.
    std::span<const std::byte> opaque(std::uint32_t most) noexcept;
    /// Fixed-length opaque data into all of `into`.
    void raw(std::span<std::byte> into) noexcept;
    void skip(std::uint32_t size) noexcept { take(size); }
    bool short_of_bytes() const noexcept { return short_; }
    std::uint32_t at() const noexcept { return static_cast<std::uint32_t>(at_); }  ///< bytes read
    /// Once short_of_bytes(): how many bytes there would have to be, at least.
    std::size_t needed() const noexcept { return needed_; }
    std::size_t left() const noexcept { return in_.size() - at_; }

  private:
    bool take(std::size_t size) noexcept;

    std::span<const std::byte> in_;
    std::size_t at_ = 0;
    std::size_t needed_ = 0;
    bool short_ = false;
};

}  // namespace farswap::xdr
