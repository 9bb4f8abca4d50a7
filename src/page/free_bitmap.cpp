// Which frames are free: search for a run without writing, then claim it word by word.
#include "page/free_bitmap.h"

#include <algorithm>
#include <bit>

#include "base/assert.h"

namespace farswap {

namespace {

constexpr std::uint32_t kWordBits = FreeBitmap::kWordBits;
constexpr std::uint64_t kAll = ~std::uint64_t{0};

/// `count` ones (1..64) from bit `first` on.
constexpr std::uint64_t ones(std::uint32_t first, std::uint32_t count) {
    return (count == kWordBits ? kAll : (std::uint64_t{1} << count) - 1) << first;
}

/// Bit i of the answer: bits i .. i + count - 1 are all set.
constexpr std::uint64_t run_starts(std::uint64_t bits, std::uint32_t count) {
    if (count > kWordBits) return 0;
    for (std::uint32_t have = 1; have < count;) {
        const std::uint32_t step = std::min(have, count - have);
        bits &= bits >> step;
        have += step;
    }
    return bits;
}

/// The longest run, at most `want`, in words that are fed in ascending order.
class RunSearch {
  public:
    explicit RunSearch(std::uint32_t want) : want_(want) {}

    BitRun best() const { return best_; }
    bool full() const { return best_.count == want_; }
    /// A run reaches the end of the last word.
    bool open() const { return open_.count > 0; }
    /// The next word does not follow the last one.
    void interrupt() { open_ = {}; }

    void feed(std::uint32_t word, std::uint64_t bits) {
        const std::uint32_t base = word * kWordBits;
        const auto head = static_cast<std::uint32_t>(std::countr_one(bits));
        if (open_.count == 0) open_.first = base;
        open_.count += head;
        offer(open_);
        if (bits == kAll) return;
        while (!full()) {
            const std::uint64_t starts = run_starts(bits, best_.count + 1);
            if (starts == 0) break;
            const auto first = static_cast<std::uint32_t>(std::countr_zero(starts));
            offer({base + first, static_cast<std::uint32_t>(std::countr_one(bits >> first))});
        }
        const auto tail = static_cast<std::uint32_t>(std::countl_one(bits));
        open_ = {base + kWordBits - tail, tail};
    }

  private:
    void offer(BitRun run) {
        if (run.count > best_.count) best_ = {run.first, std::min(run.count, want_)};
    }

    std::uint32_t want_;
    BitRun best_;
    BitRun open_;
};

}  // namespace

FreeBitmap::FreeBitmap(std::span<Word> words, std::uint32_t frames) noexcept
    : words_(words), frames_(frames) {
    FARSWAP_ASSERT(frames > 0 && words.size() == words_for(frames));
    for (Word& word : words_) word.store(0, std::memory_order_relaxed);
}

void FreeBitmap::add(std::uint32_t first, std::uint32_t count) noexcept {
    FARSWAP_ASSERT(first <= frames_ && count <= frames_ - first);
    free_.fetch_add(count, std::memory_order_relaxed);  // it may run ahead of the bits, never behind
    for (std::uint32_t at = first; at < first + count;) {
        const std::uint32_t bits = std::min(first + count - at, kWordBits - at % kWordBits);
        const std::uint64_t mask = ones(at % kWordBits, bits);
        const std::uint64_t before = words_[at / kWordBits].fetch_or(mask, std::memory_order_release);
        FARSWAP_ASSERT((before & mask) == 0);
        at += bits;
    }
}

BitRun FreeBitmap::find_run(std::uint32_t count_max) const noexcept {
    const auto words = static_cast<std::uint32_t>(words_.size());
    const std::uint32_t next = next_.load(std::memory_order_relaxed);
    const std::uint32_t start = next / kWordBits;
    RunSearch search(count_max);
    std::uint32_t searched = 0;
    const auto look = [&](std::uint32_t word, std::uint64_t mask) {
        const std::uint64_t bits = words_[word].load(std::memory_order_relaxed) & mask;
        bits == 0 ? search.interrupt() : search.feed(word, bits);
        return search.full() || (++searched >= kSearchWordsMax && search.best().count > 0);
    };
    for (std::uint32_t word = start; word < words; ++word) {
        if (look(word, word == start ? kAll << next % kWordBits : kAll)) return search.best();
    }
    search.interrupt();
    // Past the start too while a run goes on: it may lie across the place where the search began.
    for (std::uint32_t word = 0; word < words && (word <= start || search.open()); ++word) {
        if (look(word, kAll)) break;
    }
    return search.best();
}

BitRun FreeBitmap::claim(BitRun run) noexcept {
    std::uint32_t claimed = 0;
    while (claimed < run.count) {
        const std::uint32_t at = run.first + claimed;
        const std::uint32_t count = std::min(run.count - claimed, kWordBits - at % kWordBits);
        const std::uint64_t mask = ones(at % kWordBits, count);
        Word& word = words_[at / kWordBits];
        std::uint64_t bits = word.load(std::memory_order_relaxed);
        bool taken = false;
        // Acquire: what the last owner did to the frames happened before.
        while (!taken && (bits & mask) == mask) {
            taken = word.compare_exchange_weak(bits, bits & ~mask, std::memory_order_acquire,
                                               std::memory_order_relaxed);
        }
        if (!taken) break;
        claimed += count;
    }
    return {run.first, claimed};
}

BitRun FreeBitmap::take_run(std::uint32_t count_max) noexcept {
    if (count_max == 0) return {};
    while (free_count() > 0) {
        const BitRun found = find_run(count_max);
        if (found.count == 0) return {};
        // Another thread may have been faster: then the part before the first lost word serves, if there is
        // any.
        const BitRun run = claim(found);
        if (run.count == 0) continue;
        free_.fetch_sub(run.count, std::memory_order_relaxed);
        const std::uint32_t end = run.first + run.count;
        next_.store(end < frames_ ? end : 0, std::memory_order_relaxed);
        return run;
    }
    return {};
}

void FreeBitmap::give_back(std::uint32_t frame) noexcept {
    // The count first: it may run ahead of the bits, never behind, and the owner may end this object as soon
    // as it sees the bit.
    free_.fetch_add(1, std::memory_order_relaxed);
    const std::uint64_t bit = ones(frame % kWordBits, 1);
    const std::uint64_t before = words_[frame / kWordBits].fetch_or(bit, std::memory_order_release);
    FARSWAP_ASSERT((before & bit) == 0);
}

bool FreeBitmap::is_free(std::uint32_t frame) const noexcept {
    return words_[frame / kWordBits].load(std::memory_order_acquire) & ones(frame % kWordBits, 1);
}

}  // namespace farswap
