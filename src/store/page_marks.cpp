// See page_marks.h.
#include "store/page_marks.h"

#include <algorithm>
#include <bit>

#include "base/assert.h"

namespace farswap {
namespace {

/// Bits [from, from + count) of a word; from + count is at most 64, count at least 1.
constexpr std::uint64_t mask_of(std::uint64_t from, std::uint64_t count) noexcept {
    return (~std::uint64_t{0} >> (64 - count)) << from;
}

}  // namespace

Result<PageMarks> PageMarks::create(std::uint64_t pages) {
    const std::uint64_t words = pages / 64 + 1;
    auto bits = ZeroTable<std::uint64_t>::create(words);
    if (!bits) return std::unexpected(std::move(bits.error()));
    auto used = ZeroTable<std::uint64_t>::create(words / 64 + 1);
    if (!used) return std::unexpected(std::move(used.error()));
    return PageMarks(std::move(*bits), std::move(*used), pages);
}

/// Gives each word of the run the value that `word_of` makes of it and of the run's bits in it.
template <typename Change>
void PageMarks::change(Run run, Change word_of) noexcept {
    FARSWAP_ASSERT(run.first <= pages_ && run.count <= pages_ - run.first);
    const std::uint64_t end = run.first + run.count;
    for (std::uint64_t page = run.first; page < end;) {
        const std::uint64_t word = page / 64;
        const std::uint64_t count = std::min(64 - page % 64, end - page);
        const std::uint64_t before = bits_[word];
        const std::uint64_t after = word_of(before, mask_of(page % 64, count));
        page += count;
        if (after == before) continue;
        bits_[word] = after;
        marked_ += static_cast<std::uint64_t>(std::popcount(after));
        marked_ -= static_cast<std::uint64_t>(std::popcount(before));
        const std::uint64_t bit = std::uint64_t{1} << word % 64;
        if (after != 0)
            used_[word / 64] |= bit;
        else
            used_[word / 64] &= ~bit;
    }
}

void PageMarks::set(Run run) noexcept {
    change(run, [](std::uint64_t word, std::uint64_t mask) { return word | mask; });
}

void PageMarks::clear(Run run) noexcept {
    change(run, [](std::uint64_t word, std::uint64_t mask) { return word & ~mask; });
}

bool PageMarks::any(Run run) const noexcept {
    if (marked_ == 0) return false;
    const Run found = next(run.first, 1);
    return found.count != 0 && found.first - run.first < run.count;
}

bool PageMarks::all(Run run) const noexcept {
    const Run found = next(run.first, run.count);
    return run.count == 0 || (found.first == run.first && found.count == run.count);
}

PageMarks::Run PageMarks::next(std::uint64_t from, std::uint64_t count_max) const noexcept {
    if (marked_ == 0 || from >= pages_) return {};
    std::uint64_t word = from / 64;
    std::uint64_t bits = bits_[word] & (~std::uint64_t{0} << from % 64);
    if (bits == 0) {
        ++word;
        std::uint64_t group = word / 64;
        const std::uint64_t groups = used_.size();
        if (group >= groups) return {};
        std::uint64_t used = used_[group] & (~std::uint64_t{0} << word % 64);
        while (used == 0) {
            if (++group >= groups) return {};
            used = used_[group];
        }
        word = group * 64 + static_cast<unsigned>(std::countr_zero(used));
        bits = bits_[word];
    }
    Run run{word * 64 + static_cast<unsigned>(std::countr_zero(bits)), 0};
    while (run.count < count_max && run.first + run.count < pages_ && test(run.first + run.count))
        ++run.count;
    return run;
}

}  // namespace farswap
