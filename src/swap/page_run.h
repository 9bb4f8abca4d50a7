// A request over neighbouring slots and frames, with the pins that hold the frames in place while it lasts.
#pragma once

#include <cstdint>
#include <memory>

#include "farswap/request.h"
#include "io/loop.h"
#include "swap/slots.h"

namespace farswap {

/// Whether the one page of a run that was read has been opened, which is done in its place and so only once.
enum class Opened : std::uint8_t { kNotTried, kRight, kWrong };

/// One transfer of a run of pages. Lives in a fixed table; idle ones are linked by `next_idle`.
struct PageRun {
    Request request;
    io::Timer retry;
    SlotId slot = kNoSlot;
    FrameIndex frame = kNoFrame;
    std::uint32_t count = 0;      ///< pages; 0 while idle
    std::uint32_t failures = 0;   ///< of this run's request
    io::Clock::time_point since;  ///< when it was first asked for
    bool submitted = false;       ///< the store has it; else it waits for its next attempt
    Opened opened = Opened::kNotTried;
    std::byte* buffer = nullptr;  ///< write-out of sealed pages: room for the records of the longest run
    void* owner = nullptr;        ///< WriteOut or ReadIn
    page** pages = nullptr;       ///< room for the longest run
    FetchList delivery;           ///< read-in: fetches that this run has an answer for
    PageRun* next_idle = nullptr;
};

/// A fixed number of runs and the room for their pins.
class PageRunTable {
  public:
    /// `buffers`: runs * pages_max frames of a pool, from which pages are written instead of from their own
    /// frames, or null.
    PageRunTable(std::uint32_t runs, std::uint32_t pages_max, std::byte* buffers = nullptr);

    /// Null when all are in use.
    PageRun* acquire() noexcept;
    void release(PageRun& run) noexcept;
    bool has_idle() const noexcept { return idle_ != nullptr; }
    std::uint32_t in_use() const noexcept { return in_use_; }

    /// The runs in use. `visit` must not acquire.
    template <typename Visit>
    void for_each(Visit visit) {
        for (std::uint32_t i = 0; i < size_; ++i)
            if (runs_[i].count != 0) visit(runs_[i]);
    }

    /// Sets slots and frames, pins the memory that the request moves (for writing into it when `op` is a
    /// read) and fills the request but for its callback and deadline; the request's owner is the run. The
    /// pages have references, so that a pin that fails is a broken invariant.
    void prepare(PageRun& run, std::uint32_t op, SlotId slot, FrameIndex frame, std::uint32_t count,
                 Slots& slots);
    /// Puts the pins.
    static void unpin(PageRun& run) noexcept;

  private:
    std::uint32_t size_;
    std::uint32_t in_use_ = 0;
    std::unique_ptr<PageRun[]> runs_;
    std::unique_ptr<page*[]> pages_;
    std::unique_ptr<kvec[]> segments_;  ///< scratch of prepare()
    PageRun* idle_ = nullptr;
};

}  // namespace farswap
