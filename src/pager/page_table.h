// The page words of one process, by address. Knows no rules; page_state.h has them.
#pragma once

#include <sys/mman.h>

#include <cstdint>
#include <memory>

#include "base/result.h"
#include "farswap/request.h"
#include "pager/page_state.h"
#include "target/proc.h"

namespace farswap {

/// A three-level table for 47-bit addresses, in one lazily populated mapping: it costs 8 bytes a page in each
/// 2 MiB of addresses that ever held a word, and allocates nothing on the fault path. One thread.
class PageTable {
  public:
    static Result<std::unique_ptr<PageTable>> create();
    ~PageTable();
    PageTable(const PageTable&) = delete;
    PageTable& operator=(const PageTable&) = delete;

    /// The word of the page at `address`; a default word where none was ever set.
    PageWord get(std::uint64_t address) const noexcept;
    /// Sets it. ENOMEM is impossible within kAddressesMax of touched addresses; beyond it, an invariant
    /// breaks.
    void set(std::uint64_t address, PageWord word) noexcept;

    /// Calls visit(address, word) for each word in [start, end) that is not a default word. `visit` may set
    /// words of the range that is visited.
    template <typename Visit>
    void for_each(std::uint64_t start, std::uint64_t end, Visit visit) const {
        (void)find(start, end, [&](std::uint64_t at, PageWord word) {
            visit(at, word);
            return false;
        });
    }

    /// The first address in [start, end) whose word is no default word and for which holds(address, word);
    /// `end` if there is none.
    template <typename Holds>
    std::uint64_t find(std::uint64_t start, std::uint64_t end, Holds holds) const {
        for (std::uint64_t at = start; at < end;) {
            const std::uint32_t* middle = middle_of(at);
            if (middle == nullptr) {
                at = (at | (kMiddleSpan - 1)) + 1;
                continue;
            }
            const std::uint32_t leaf = middle[(at / kLeafSpan) % kFanOut];
            const std::uint64_t leaf_end = (at | (kLeafSpan - 1)) + 1;
            if (leaf == 0) {
                at = leaf_end;
                continue;
            }
            for (; at < end && at < leaf_end; at += kPageSize) {
                const PageWord word = words(leaf)[(at / kPageSize) % kLeafWords];
                if (!word.is_default() && holds(at, word)) return at;
            }
        }
        return end;
    }

    static constexpr std::uint64_t kAddressEnd = target::kAddressEnd;

  private:
    // Blocks of 4 KiB within the mapping, numbered from 1: leaves of 512 words (2 MiB of addresses), middle
    // tables of 1024 block numbers (2 GiB); the top table of 65,536 middle tables comes first.
    static constexpr std::uint64_t kLeafWords = 512;
    static constexpr std::uint64_t kLeafSpan = kLeafWords * kPageSize;
    static constexpr std::uint64_t kFanOut = 1024;
    static constexpr std::uint64_t kMiddleSpan = kLeafSpan * kFanOut;
    static constexpr std::uint64_t kTopEntries = kAddressEnd / kMiddleSpan;
    static constexpr std::uint64_t kTopBytes = kTopEntries * sizeof(std::uint32_t);
    static constexpr std::uint64_t kBytes = std::uint64_t{1} << 30;  // half a TiB of addresses in use
    static constexpr std::uint64_t kBlocks = (kBytes - kTopBytes) / kPageSize;

    explicit PageTable(std::byte* memory) : memory_(memory) {}
    std::byte* block(std::uint32_t number) const { return memory_ + kTopBytes + (number - 1) * kPageSize; }
    PageWord* words(std::uint32_t leaf) const { return reinterpret_cast<PageWord*>(block(leaf)); }
    std::uint32_t* middle_of(std::uint64_t address) const {
        const std::uint32_t number = reinterpret_cast<const std::uint32_t*>(memory_)[address / kMiddleSpan];
        return number == 0 ? nullptr : reinterpret_cast<std::uint32_t*>(block(number));
    }
    std::uint32_t take_block() noexcept;

    std::byte* memory_;
    std::uint32_t blocks_used_ = 0;
};

}  // namespace farswap
