// Write-out to one store: gathers dirty pages into runs, writes and flushes them. Knows nothing of who needs
// a page.
#pragma once

#include <cstdint>
#include <optional>

#include "farswap/store.h"
#include "io/loop.h"
#include "swap/events.h"
#include "swap/page_run.h"
#include "swap/slots.h"

namespace farswap {

/// How much may be in flight to one store, and the memory for it.
struct WriteBuffers {
    std::uint32_t writes = 0;
    std::uint32_t pages = 0;      ///< in one write
    std::byte* memory = nullptr;  ///< writes * pages frames of a pool; null: records are the pages themselves
};

/// Pages are written in the order in which they were added, in runs: their records, one behind the other, in
/// blocks that are taken for them then. Where records are the pages themselves, a run takes neighbouring
/// frames. A run that may still grow (it ends with the page added last) waits until it is full, until kick()
/// is called, or until somebody needs frames while no write is in flight (else the end of that write comes
/// soon enough, and the run has grown by then).
///
/// What is due may be taken elsewhere (SwapEvents::offer). What is refused there, or comes back from there,
/// is overdue: written before all else.
///
/// Each write belongs to the epoch in which it completed; submitting a flush ends the epoch. When the flush
/// has completed, the pages of its epoch and of earlier ones are safe. When it reports a loss (-ESTALE), all
/// that was written and not yet safe is dirty again, and writes in flight will count for nothing.
class WriteOut {
  public:
    WriteOut(Slots& slots, StorePart& part, io::Loop& loop, const SwapAreaOptions& options,
             SwapEvents& events, const WriteBuffers& buffers);
    WriteOut(const WriteOut&) = delete;
    WriteOut& operator=(const WriteOut&) = delete;

    /// Starts the writes and the flush whose time has come. Call it after pages were added and when frames
    /// are needed.
    void start() noexcept;
    /// Writes all that is dirty now, short runs too.
    void kick() noexcept;
    /// Starts nothing any more; asks for what is in flight to end.
    void stop() noexcept;

    /// Failed for good: its pages stay in the cache.
    bool failed() const noexcept { return failed_; }
    /// Pages that are in memory because they are not safe on the store yet.
    std::uint32_t pages_unsafe() const noexcept {
        return part_.dirty.size + part_.overdue.size + pages_writing_ + part_.written.size;
    }
    bool quiet() const noexcept { return runs_.in_use() == 0 && !flush_busy_; }
    std::uint32_t writes_under_way() const noexcept { return runs_.in_use(); }
    bool is_flushing() const noexcept { return flush_submitted_; }
    /// Since when its oldest write or flush is to be answered.
    std::optional<io::Clock::time_point> waits_since() noexcept;
    std::uint64_t pages_written() const noexcept { return pages_written_; }

  private:
    static void write_ended(Request& request, int result);
    static void retry_write(io::Timer& timer);
    static void flush_ended(FlushRequest& flush, int result);
    static void flush_timer(io::Timer& timer);

    void start_writes() noexcept;
    void offer_due() noexcept;
    bool needs_writes() const noexcept;
    FrameList& queue() const noexcept { return part_.overdue.size > 0 ? part_.overdue : part_.dirty; }
    std::uint32_t head_run(bool* closed) const noexcept;
    void launch() noexcept;
    bool may_join(FrameIndex last, FrameIndex next) const noexcept;
    std::uint32_t gather_pages(PageRun& run) noexcept;
    std::uint32_t gather_records(PageRun& run) noexcept;
    std::uint32_t gather_again(PageRun& run) noexcept;
    std::uint32_t lost_together() const noexcept;
    void take_head(PageRun& run) noexcept;
    void submit(PageRun& run) noexcept;
    void end_run(PageRun& run, SlotEvent event) noexcept;
    void consider_flush() noexcept;
    void submit_flush() noexcept;
    void settle_flushed() noexcept;
    void settle_lost() noexcept;
    void fail_for_good(const char* what, int error) noexcept;

    Slots& slots_;
    StorePart& part_;
    io::Loop& loop_;
    const SwapAreaOptions& options_;
    SwapEvents& events_;
    const std::uint32_t run_max_;  ///< pages in one write
    PageRunTable runs_;
    std::byte* const buffers_;        ///< run_max_ frames for each run of the table, or null
    const std::uint32_t held_pages_;  ///< dirty pages that are not written yet unless frames are short
    FlushRequest flush_;
    io::Timer flush_timer_;      ///< the idle flush, or the next attempt of one that failed
    std::uint32_t flush_pages_;  ///< written pages that make a flush worth while
    std::uint32_t epoch_ = 1;    ///< of writes that complete now
    std::uint32_t written_in_epoch_ = 0;
    std::uint32_t pages_writing_ = 0;  ///< in runs in flight
    std::uint32_t flush_failures_ = 0;
    io::Clock::time_point flush_since_;  ///< when it was first asked for
    bool flush_busy_ = false;            ///< submitted, or waiting for its next attempt
    bool flush_submitted_ = false;
    bool kicked_ = false;  ///< until nothing is dirty
    bool failed_ = false;
    bool stopped_ = false;
    std::uint64_t pages_written_ = 0;
};

}  // namespace farswap
