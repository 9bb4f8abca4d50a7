// Content that says where it belongs: every 8-byte word can be decoded back into region, version and
// position. Knows nothing of paging: plain arithmetic on memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>

namespace workload {

inline constexpr std::size_t kPage = 4096;
inline constexpr std::size_t kLine = 64;
inline constexpr std::size_t kWordsPerPage = kPage / sizeof(std::uint64_t);

/// What a word holds. Packed into 64 bits: 12 for the region, 20 for the version, 32 for the word's index.
struct Key {
    std::uint32_t region = 0;   ///< which buffer, 1..4095
    std::uint32_t version = 0;  ///< how often it was rewritten, modulo 2^20
    std::uint32_t word = 0;     ///< index of the 8-byte word in its region
};

constexpr std::uint32_t kMaxVersion = (1U << 20) - 1;

/// A bijection of 64 bits (the finalizer of splitmix64), so that content does not compress and decodes.
constexpr std::uint64_t scramble(std::uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
    return x ^ (x >> 31);
}

constexpr std::uint64_t unscramble(std::uint64_t x) {
    x = (x ^ (x >> 31) ^ (x >> 62)) * 0x319642b2d24d8ec3ULL;
    x = (x ^ (x >> 27) ^ (x >> 54)) * 0x96de1b173f119089ULL;
    return x ^ (x >> 30) ^ (x >> 60);
}

constexpr std::uint64_t encode(Key key) {
    return scramble((std::uint64_t{key.region & 0xfffU} << 52) |
                    (std::uint64_t{key.version & kMaxVersion} << 32) | key.word);
}

constexpr Key decode(std::uint64_t word) {
    const std::uint64_t raw = unscramble(word);
    return {static_cast<std::uint32_t>(raw >> 52), static_cast<std::uint32_t>(raw >> 32) & kMaxVersion,
            static_cast<std::uint32_t>(raw)};
}

static_assert(unscramble(scramble(0x123456789abcdef0ULL)) == 0x123456789abcdef0ULL);

/// Writes `bytes` (a multiple of 8) of content at `at`; the first word is `first` of its region.
inline void write_words(void* at, std::size_t bytes, Key first) {
    auto* words = static_cast<std::uint64_t*>(at);
    for (std::size_t i = 0; i < bytes / sizeof *words; i++) {
        words[i] = encode({first.region, first.version, first.word + static_cast<std::uint32_t>(i)});
    }
}

/// Index of the first wrong word, or nothing when all `bytes` hold what write_words(first) wrote.
inline std::optional<std::size_t> find_wrong_word(const void* at, std::size_t bytes, Key first) {
    const auto* words = static_cast<const std::uint64_t*>(at);
    for (std::size_t i = 0; i < bytes / sizeof *words; i++) {
        if (words[i] != encode({first.region, first.version, first.word + static_cast<std::uint32_t>(i)}))
            return i;
    }
    return std::nullopt;
}

/// Explains one wrong word in a line: address, page, the first wrong byte, and what the found word is (zero,
/// an older version, another place's content, unknown), how much of its page is wrong, and whether it still
/// is.
std::string explain_wrong_word(const void* at, std::size_t bytes, Key first, std::size_t wrong_word);

}  // namespace workload
