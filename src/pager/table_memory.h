// Memory for the page tables of all processes of a job: blocks of a page each, taken and given back. Knows
// nothing of what is in them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/result.h"
#include "base/zero_table.h"
#include "farswap/request.h"

namespace farswap {

/// Addresses only, until a block is written: to take one and to give it back makes no system call, nor
/// allocates anything. keep_up() does what the system has to do for that. One thread.
class TableMemory {
  public:
    /// Twice the RAM of the machine, as far as a limit on addresses allows: tables that want more than that
    /// are of a job that has long been ended.
    static std::uint64_t beyond_the_machine() noexcept;
    static Result<std::unique_ptr<TableMemory>> create(std::uint64_t bytes_max = beyond_the_machine());
    ~TableMemory();
    TableMemory(const TableMemory&) = delete;
    TableMemory& operator=(const TableMemory&) = delete;

    /// A block whose bits are all zero. There must be one: see make_room() and is_short().
    void* take() noexcept;
    /// Gives back a block whose bits are all zero again.
    void give(void* block) noexcept;

    /// Whether so many blocks more can be taken.
    bool make_room(std::uint64_t blocks) noexcept;
    /// Makes a good many more blocks ready to be taken, and gives the memory of free ones back to the system,
    /// but for a few: what comes and goes takes those. To be called now and then.
    void keep_up() noexcept;
    /// At the last keep_up() the system refused more blocks, and few are left.
    bool is_short() const noexcept { return is_short_; }

    std::uint64_t blocks_in_use() const noexcept { return next_ - free_count_; }
    /// Free blocks that still take memory.
    std::uint64_t blocks_kept() const noexcept { return free_count_ - dropped_; }
    static constexpr std::uint32_t kKeptMax =
        128;  ///< of these, after keep_up() has been called often enough

  private:
    TableMemory(std::byte* memory, std::uint32_t blocks_max, ZeroTable<std::uint32_t> free) noexcept
        : memory_(memory), blocks_max_(blocks_max), free_(std::move(free)) {}
    std::byte* block(std::uint32_t number) const noexcept {
        return memory_ + std::uint64_t{number} * kPageSize;
    }
    bool open_more() noexcept;
    void drop(std::uint32_t first, std::uint32_t count) noexcept;

    std::byte* memory_;
    std::uint32_t blocks_max_;
    std::uint32_t opened_ = 0;  ///< blocks below may be written
    std::uint32_t next_ = 0;    ///< blocks from here on were never taken
    /// A stack of the blocks below next_ that are free; those at its bottom take no memory.
    ZeroTable<std::uint32_t> free_;
    std::uint32_t free_count_ = 0;
    std::uint32_t dropped_ = 0;
    bool is_short_ = false;
};

}  // namespace farswap
