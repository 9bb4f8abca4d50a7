// Read-in: brings stored pages back in runs, verifies them, and tells those who wait. Knows nothing of
// write-out.
#pragma once

#include <cstdint>
#include <optional>

#include "farswap/store.h"
#include "io/loop.h"
#include "swap/events.h"
#include "swap/frame_supply.h"
#include "swap/page_run.h"
#include "swap/slots.h"

namespace farswap {

/// Memory for records that are not whole pages; frames of a pool.
struct ReadBuffers {
    std::byte* memory = nullptr;  ///< small * kSmallBlocks + large * large_blocks frames
    std::uint32_t small = 0;
    std::uint32_t large = 0;
    std::uint32_t large_blocks = 0;
};
inline constexpr std::uint32_t kSmallBlocks = 2;

/// A page that does not match its checksum is read from another copy, where the store has more than one:
/// alone, so that nothing that was good is given up for it.
///
/// A fetch is in one of four places: with the frame that a read fills (several fetches share one read), among
/// the hits (its page is in the cache; answered from the loop), among the starved (no frame, or too many
/// reads in flight; served in order, before anybody else gets a frame), or in a run's delivery (its answer is
/// known).
class ReadIn {
  public:
    ReadIn(Slots& slots, FrameSupply& frames, io::Loop& loop, const SwapAreaOptions& options,
           SwapEvents& events, const ReadBuffers& buffers);
    ReadIn(const ReadIn&) = delete;
    ReadIn& operator=(const ReadIn&) = delete;

    /// Returns true when the fetch waits for pump().
    bool fetch(SlotFetch& fetch) noexcept;
    static void cancel(SlotFetch& fetch) noexcept;
    /// Reads what is outside of `wanted` and on the first slot's store, for nobody yet: as far as frames are
    /// not short.
    void prefetch(SlotRun wanted) noexcept;
    /// The slot's count fell to 0: those who still wait for it get -ECANCELED.
    void forget(SlotId slot) noexcept;

    /// Answers hits and serves the starved. From the loop only.
    void pump() noexcept;
    /// Somebody waits because no frame is free.
    bool wants_frames() const noexcept { return !starved_.empty() && runs_.has_idle(); }
    bool wants_pump() const noexcept { return !hits_.empty() || !starved_.empty(); }

    /// Answers everybody who waits for a place in line with -ECANCELED and asks what is in flight to end.
    void stop() noexcept;
    bool quiet() const noexcept { return reads_under_way() == 0; }
    std::uint32_t reads_under_way() const noexcept { return runs_.in_use(); }

    /// Since when the oldest read from the store is to be answered.
    std::optional<io::Clock::time_point> waits_since(const StorePart& part) noexcept;
    std::uint64_t pages_read() const noexcept { return pages_read_; }

  private:
    static void read_ended(Request& request, int result);
    static void retry_read(io::Timer& timer);

    bool serve(SlotFetch& fetch) noexcept;
    bool launch(SlotFetch& fetch) noexcept;
    struct Span {
        std::uint32_t first_block;
        std::uint32_t blocks;
    };
    PageRun* prepare(SlotId slot, SlotRun wanted) noexcept;
    Span span_of(SlotRun run) const noexcept;
    bool is_direct(SlotRun run) const noexcept;
    bool take_buffer(SlotRun run, std::byte** buffer) noexcept;
    void give_buffer(std::byte* buffer) noexcept;
    SlotRun readable_around(SlotId slot, SlotRun window) const noexcept;
    void submit(PageRun& run) noexcept;
    bool ask_other_copy(PageRun& run) noexcept;
    bool open_page(PageRun& run, std::uint32_t index) noexcept;
    void settle_page(PageRun& run, std::uint32_t index, int error) noexcept;
    void end_run(PageRun& run, int error) noexcept;
    void deliver_hit(SlotFetch& fetch) noexcept;
    void cancel_all(FetchList& list) noexcept;

    Slots& slots_;
    FrameSupply& frames_;
    io::Loop& loop_;
    const SwapAreaOptions& options_;
    SwapEvents& events_;
    PageRunTable runs_;
    BufferSet small_;  ///< for a page whose record lies in two blocks
    BufferSet large_;  ///< for runs of records
    FetchList hits_;
    FetchList starved_;
    FetchList* delivering_ = nullptr;  ///< the delivery that is being answered right now
    bool stopped_ = false;
    std::uint64_t pages_read_ = 0;
    std::uint64_t wrong_copies_ = 0;  ///< that another copy could be asked for
};

}  // namespace farswap
