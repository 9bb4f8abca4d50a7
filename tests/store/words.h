// Bytes of calls and replies written out by hand, for tests of what encodes and decodes them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace farswap::test {

using Bytes = std::vector<std::byte>;

struct Words {
    Bytes bytes;
    Words& u32(std::uint32_t value) {
        for (int shift = 24; shift >= 0; shift -= 8) bytes.push_back(static_cast<std::byte>(value >> shift));
        return *this;
    }
    Words& u64(std::uint64_t value) {
        return u32(static_cast<std::uint32_t>(value >> 32)).u32(static_cast<std::uint32_t>(value));
    }
    /// Variable-length opaque data: length, bytes, padding.
    Words& text(std::string_view text) {
        u32(static_cast<std::uint32_t>(text.size()));
        for (const char c : text) bytes.push_back(static_cast<std::byte>(c));
        return fill((4 - text.size() % 4) % 4, 0);
    }
    Words& fill(std::size_t count, int value) {
        bytes.insert(bytes.end(), count, static_cast<std::byte>(value));
        return *this;
    }
    Words& raw(const Bytes& more) {
        bytes.insert(bytes.end(), more.begin(), more.end());
        return *this;
    }
};

/// The head of a reply to an RPC call that was accepted.
inline Words accepted(std::uint32_t xid) {
    return Words().u32(xid).u32(1).u32(0).u32(0).u32(0).u32(0);
}

}  // namespace farswap::test
