// Which frames are free: a lock-free bitmap that hands out runs of neighbours. Knows numbers, not memory or
// pins.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>

namespace farswap {

/// Neighbouring frame numbers, as the bitmap finds them. count 0 is "none".
struct BitRun {
    std::uint32_t first = 0;
    std::uint32_t count = 0;
};

/// A set of free frame numbers. Every call may be made from any thread; none blocks, none allocates.
class FreeBitmap {
  public:
    static constexpr std::uint32_t kWordBits = 64;
    using Word = std::atomic<std::uint64_t>;

    static constexpr std::size_t words_for(std::uint32_t frames) {
        return (frames + std::size_t{kWordBits} - 1) / kWordBits;
    }

    /// For `frames` numbers, none of which is free before it is added. `words` holds words_for(frames) of
    /// them and outlives this.
    FreeBitmap(std::span<Word> words, std::uint32_t frames) noexcept;
    /// Numbers that were not there before are free from now on. One thread at a time.
    void add(std::uint32_t first, std::uint32_t count) noexcept;

    /// Takes up to `count_max` neighbours, the first such run after the last one taken; when there is none
    /// that long, the longest that was found (searching at most kSearchWordsMax words once something was
    /// found).
    BitRun take_run(std::uint32_t count_max) noexcept;
    /// Makes `frame` free. The call's last access to the bitmap is the one that makes it visible as free.
    void give_back(std::uint32_t frame) noexcept;

    bool is_free(std::uint32_t frame) const noexcept;
    /// Never less than the numbers that can be taken at this moment.
    std::uint32_t free_count() const noexcept { return free_.load(std::memory_order_relaxed); }

    /// 65,536 frames: a bound of a few microseconds on the fault path, however large the pool.
    static constexpr std::uint32_t kSearchWordsMax = 1024;

  private:
    BitRun find_run(std::uint32_t count_max) const noexcept;
    BitRun claim(BitRun run) noexcept;

    std::span<Word> words_;
    std::uint32_t frames_;
    // Next fit: neighbours in time become neighbours in memory, and two threads seldom meet in one word.
    std::atomic<std::uint32_t> next_{0};
    std::atomic<std::uint32_t> free_{0};
};

}  // namespace farswap
