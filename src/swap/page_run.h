// A request over a run of pages, with the pins that hold its memory in place while it lasts.
#pragma once

#include <cstdint>
#include <memory>

#include "farswap/request.h"
#include "io/loop.h"
#include "swap/slots.h"

namespace farswap {

/// Whether the one page of a run that was read has been opened, which can be done only once.
enum class Opened : std::uint8_t { kNotTried, kRight, kWrong };

/// One transfer of pages whose records lie in neighbouring blocks. Lives in a fixed table; idle ones are
/// linked by `next_idle`.
struct PageRun {
    Request request;
    io::Timer retry;
    SlotId* slots = nullptr;        ///< in the order of their places; room for pages_max
    FrameIndex* frames = nullptr;   ///< theirs
    std::uint32_t count = 0;        ///< of them; 0 while idle
    std::uint32_t first_block = 0;  ///< that the request moves
    std::uint32_t failures = 0;     ///< of this run's request
    io::Clock::time_point since;    ///< when it was first asked for
    bool submitted = false;         ///< the store has it; else it waits for its next attempt
    Opened opened = Opened::kNotTried;
    /// Records that are no whole pages: memory for them, in a pool. Null: the request moves the frames
    /// themselves.
    std::byte* buffer = nullptr;
    void* owner = nullptr;   ///< WriteOut or ReadIn
    page** pages = nullptr;  ///< pins; room for blocks_max
    std::uint32_t pinned = 0;
    FetchList delivery;  ///< read-in: fetches that this run has an answer for
    PageRun* next_idle = nullptr;

    void add(SlotId slot, FrameIndex frame) noexcept {
        slots[count] = slot;
        frames[count++] = frame;
    }
    /// Where in the request's memory the record at `place` lies.
    std::byte* record(Place place) const noexcept {
        return request.data + (place.offset() - block_offset(first_block));
    }
};

/// A fixed number of runs, and the room for what they list.
class PageRunTable {
  public:
    PageRunTable(std::uint32_t runs, std::uint32_t pages_max, std::uint32_t blocks_max);

    /// Null when all are in use.
    PageRun* acquire() noexcept;
    void release(PageRun& run) noexcept;
    bool has_idle() const noexcept { return idle_ != nullptr; }
    std::uint32_t in_use() const noexcept { return in_use_; }
    /// The run's number in the table.
    std::uint32_t index(const PageRun& run) const noexcept {
        return static_cast<std::uint32_t>(&run - runs_.get());
    }

    /// The runs in use. `visit` must not acquire.
    template <typename Visit>
    void for_each(Visit visit) {
        for (std::uint32_t i = 0; i < size_; ++i)
            if (runs_[i].count != 0) visit(runs_[i]);
    }

    /// Pins `blocks` frames from `memory` on (for writing into them when `op` is a read) and fills the
    /// request but for its callback and deadline; the request's owner is the run. The frames have references,
    /// so that a pin that fails is a broken invariant.
    void prepare(PageRun& run, std::uint32_t op, std::uint32_t first_block, std::uint32_t blocks,
                 std::byte* memory);
    /// Pins the frames of the run's pages instead of what was pinned.
    void pin_frames(PageRun& run, const SwapCache& cache);
    /// Puts the pins.
    static void unpin(PageRun& run) noexcept;

  private:
    std::uint32_t size_;
    std::uint32_t in_use_ = 0;
    std::unique_ptr<PageRun[]> runs_;
    std::unique_ptr<SlotId[]> slots_;
    std::unique_ptr<FrameIndex[]> frames_;
    std::unique_ptr<page*[]> pages_;
    std::unique_ptr<kvec[]> segments_;  ///< scratch of prepare()
    PageRun* idle_ = nullptr;
};

/// Pieces of a pool of the same size.
class BufferSet {
  public:
    /// `count` pieces of `blocks` frames each, from `memory` on.
    BufferSet(std::byte* memory, std::uint32_t count, std::uint32_t blocks);

    std::uint32_t blocks() const noexcept { return blocks_; }
    /// Null when all are taken.
    std::byte* take() noexcept;
    void give(std::byte* buffer) noexcept;
    bool owns(const std::byte* buffer) const noexcept {
        return buffer >= memory_ && buffer < memory_ + std::size_t{count_} * blocks_ * kBlockBytes;
    }

  private:
    std::byte* memory_;
    std::uint32_t count_;
    std::uint32_t blocks_;
    std::uint32_t idle_;
    std::unique_ptr<std::byte*[]> stack_;
};

}  // namespace farswap
