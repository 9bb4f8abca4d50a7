// Turns a wrong word into a message that names the likely cause.
#include "content.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <thread>

namespace workload {
namespace {

std::string describe_found(std::uint64_t found, Key expected) {
    if (found == 0) return "zero";
    const Key holds = decode(found);
    if (holds.region == expected.region && holds.word == expected.word) {
        return fmt::format("{} version {} of this place",
                           holds.version < expected.version ? "older" : "newer", holds.version);
    }
    if (holds.region == expected.region) {
        return fmt::format("content of another place: region {} page {} word {} version {}", holds.region,
                           holds.word / kWordsPerPage, holds.word, holds.version);
    }
    if (holds.region != 0 && holds.region < 64) {
        return fmt::format("content of another region: {} page {} version {}", holds.region,
                           holds.word / kWordsPerPage, holds.version);
    }
    return "no content that was ever written here";
}

std::size_t first_wrong_byte(std::uint64_t found, std::uint64_t expected) {
    return static_cast<std::size_t>(__builtin_ctzll(found ^ expected)) / 8;
}

}  // namespace

std::string explain_wrong_word(const void* at, std::size_t bytes, Key first, std::size_t wrong_word) {
    const auto* words = static_cast<const std::uint64_t*>(at);
    const std::size_t total = bytes / sizeof *words;
    const auto key_of = [&](std::size_t i) {
        return Key{first.region, first.version, first.word + static_cast<std::uint32_t>(i)};
    };
    const Key key = key_of(wrong_word);
    const std::uint64_t expected = encode(key);
    const std::uint64_t found = words[wrong_word];
    if (found == expected) {
        return fmt::format("word {} of region {} at {}: wrong when checked, right when read again", key.word,
                           key.region, static_cast<const void*>(words + wrong_word));
    }
    std::size_t wrong = 0;
    for (std::size_t i = wrong_word; i < std::min(total, wrong_word + kWordsPerPage); i++) {
        wrong += words[i] != encode(key_of(i));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    const bool still = *static_cast<const volatile std::uint64_t*>(words + wrong_word) != expected;
    const std::size_t byte = first_wrong_byte(found, expected);
    const auto* address = reinterpret_cast<const std::byte*>(words + wrong_word) + byte;
    return fmt::format(
        "WRONG BYTE at {} (region {} page {} offset {}): expected {:#04x} found {:#04x}; word expected "
        "{:#018x} "
        "(version {}) found {:#018x}, which is {}; {} of the next {} words wrong; {} 20 ms later",
        static_cast<const void*>(address), key.region, key.word / kWordsPerPage,
        (key.word % kWordsPerPage) * sizeof(std::uint64_t) + byte, (expected >> (byte * 8)) & 0xff,
        (found >> (byte * 8)) & 0xff, expected, key.version, found, describe_found(found, key), wrong,
        std::min(total - wrong_word, kWordsPerPage), still ? "still wrong" : "right");
}

}  // namespace workload
