// The page words of one process, by address. Knows no rules; page_state.h has them.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "farswap/request.h"
#include "pager/page_state.h"
#include "pager/table_memory.h"
#include "target/proc.h"

namespace farswap {

/// A table of four levels for 47-bit addresses. It costs 8 bytes a page in each 2 MiB of addresses that holds
/// a word now that is no default word, and one block more in each GiB and in each half TiB of these; what a
/// block holds is counted, and the last to go gives it back. Makes no system call, nor allocates but blocks.
/// One thread.
class PageTable {
  public:
    /// `memory` outlives it.
    explicit PageTable(TableMemory& memory) noexcept : memory_(&memory) {}
    ~PageTable();
    PageTable(const PageTable&) = delete;
    PageTable& operator=(const PageTable&) = delete;

    /// The word of the page at `address`; PageWord{} where none was set, or a default word was.
    PageWord get(std::uint64_t address) const noexcept;
    /// Sets it. Takes three blocks at most; none for a default word, of which only that is kept.
    void set(std::uint64_t address, PageWord word) noexcept;

    /// Calls visit(address, word) for each word in [start, end) that is not a default word. `visit` may set
    /// any words; those ahead are visited as it has set them.
    template <typename Visit>
    void for_each(std::uint64_t start, std::uint64_t end, Visit visit) const {
        (void)find(start, end, [&](std::uint64_t at, PageWord word) {
            visit(at, word);
            return false;
        });
    }

    /// The first address in [start, end) whose word is no default word and for which holds(address, word);
    /// `end` if there is none. `holds` may set any words.
    template <typename Holds>
    std::uint64_t find(std::uint64_t start, std::uint64_t end, Holds holds) const {
        const std::uint64_t limit = std::min(end, kAddressEnd);
        for (std::uint64_t at = start; at < limit;) {
            std::uint64_t span = 0;
            const PageWord* words = leaf_of(at, span);
            const std::uint64_t span_end = (at | (span - 1)) + 1;
            const std::uint64_t leaf_end = std::min(limit, span_end);
            for (; words != nullptr && at < leaf_end; at += kPageSize) {
                const PageWord word = words[at / kPageSize % kFanOut];
                if (word.is_default()) continue;
                const std::uint64_t released = released_;
                if (holds(at, word)) return at;
                // The leaf may be another's by now.
                if (released_ != released) words = leaf_of(at, span);
            }
            at = span_end;
        }
        return end;
    }

    /// Blocks that it has.
    std::uint64_t blocks() const noexcept { return taken_ - released_; }

    static constexpr std::uint64_t kAddressEnd = target::kAddressEnd;

  private:
    // Blocks of 4 KiB: leaves of 512 words, and two levels of 512 entries above them.
    static constexpr std::uint64_t kFanOut = 512;
    static constexpr std::uint64_t kLeafSpan = kFanOut * kPageSize;     // 2 MiB of addresses
    static constexpr std::uint64_t kMiddleSpan = kFanOut * kLeafSpan;   // 1 GiB
    static constexpr std::uint64_t kUpperSpan = kFanOut * kMiddleSpan;  // 512 GiB

    /// Where a block lies, and in the bits that its alignment leaves free how much it holds: words that are
    /// no default words, or entries that are not empty. Nothing: there is none.
    class Entry {
      public:
        explicit operator bool() const { return raw_ != 0; }
        PageWord* words() const { return reinterpret_cast<PageWord*>(raw_ & ~kCountBits); }
        Entry* entries() const { return reinterpret_cast<Entry*>(raw_ & ~kCountBits); }
        void* block() const { return reinterpret_cast<void*>(raw_ & ~kCountBits); }
        void point_to(void* block) { raw_ = reinterpret_cast<std::uintptr_t>(block); }
        void add(std::uint64_t count) { raw_ += count; }
        /// Whether that was the last one.
        bool remove_one() { return (--raw_ & kCountBits) == 0; }

      private:
        static constexpr std::uint64_t kCountBits = kPageSize - 1;
        std::uint64_t raw_ = 0;
    };
    static_assert(sizeof(Entry) * kFanOut == kPageSize && sizeof(PageWord) * kFanOut == kPageSize);

    /// The words of the 2 MiB that hold `address`; null where there are none, in `span` bytes around it.
    const PageWord* leaf_of(std::uint64_t address, std::uint64_t& span) const noexcept {
        const Entry upper = root_[address / kUpperSpan];
        span = kUpperSpan;
        if (!upper) return nullptr;
        const Entry middle = upper.entries()[address / kMiddleSpan % kFanOut];
        span = kMiddleSpan;
        if (!middle) return nullptr;
        const Entry leaf = middle.entries()[address / kLeafSpan % kFanOut];
        span = kLeafSpan;
        return leaf ? leaf.words() : nullptr;
    }
    bool take_into(Entry& entry) noexcept;
    void release(Entry& entry) noexcept;
    void clear(std::uint64_t address) noexcept;

    TableMemory* memory_;
    std::array<Entry, kAddressEnd / kUpperSpan> root_{};
    std::uint64_t taken_ = 0, released_ = 0;  ///< blocks, since it was made
};

}  // namespace farswap
