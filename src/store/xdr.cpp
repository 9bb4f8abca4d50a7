// XDR as far as NFS needs it; see xdr.h.
#include "store/xdr.h"

#include <endian.h>

#include <cstring>

#include "base/assert.h"

namespace farswap::xdr {

std::uint32_t load_u32(const std::byte* from) noexcept {
    std::uint32_t big;
    std::memcpy(&big, from, sizeof big);
    return be32toh(big);
}

void Writer::u32(std::uint32_t value) noexcept {
    const std::uint32_t big = htobe32(value);
    raw(&big, sizeof big);
}

void Writer::u64(std::uint64_t value) noexcept {
    const std::uint64_t big = htobe64(value);
    raw(&big, sizeof big);
}

void Writer::opaque(const void* data, std::uint32_t size) noexcept {
    u32(size);
    raw(data, size);
    const std::uint32_t zero = 0;
    raw(&zero, padding(size));
}

void Writer::raw(const void* data, std::size_t size) noexcept {
    FARSWAP_ASSERT(size <= out_.size() - at_);
    if (size > 0) std::memcpy(out_.data() + at_, data, size);
    at_ += static_cast<std::uint32_t>(size);
}

bool Reader::take(std::size_t size) noexcept {
    if (short_) return false;
    if (size > in_.size() - at_) {
        needed_ = at_ + size;
        short_ = true;
        return false;
    }
    at_ += size;
    return true;
}

std::uint32_t Reader::u32() noexcept {
    return take(4) ? load_u32(in_.data() + at_ - 4) : 0;
}

std::uint64_t Reader::u64() noexcept {
    const std::uint64_t high = u32();
    return high << 32 | u32();
}

std::span<const std::byte> Reader::opaque(std::uint32_t most) noexcept {
    const std::uint32_t size = u32();
    if (size > most) {
        short_ = true;
        return {};
    }
    const std::size_t from = at_;
    if (!take(std::size_t{size} + padding(size))) return {};
    return in_.subspan(from, size);
}

void Reader::raw(std::span<std::byte> into) noexcept {
    if (take(into.size())) std::memcpy(into.data(), in_.data() + at_ - into.size(), into.size());
}

}  // namespace farswap::xdr
