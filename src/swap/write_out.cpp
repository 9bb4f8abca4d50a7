// Write-out: runs, flushes, retries. See write_out.h for the rules.
#include "swap/write_out.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/assert.h"
#include "base/log.h"
#include "base/step.h"
#include "swap/retry.h"

namespace farswap {
namespace {

constexpr std::uint32_t kRunMost = 256;  // pages in a run

}  // namespace

WriteOut::WriteOut(Slots& slots, StorePart& part, io::Loop& loop, const SwapAreaOptions& options,
                   SwapEvents& events, const WriteBuffers& buffers)
    : slots_(slots),
      part_(part),
      loop_(loop),
      options_(options),
      events_(events),
      run_max_(buffers.pages),
      runs_(buffers.writes, buffers.pages, buffers.pages),
      buffers_(buffers.memory),
      held_pages_(static_cast<std::uint32_t>(slots.cache().pool().frames() / 100 * options.held_percent /
                                             slots.parts().size())) {
    FARSWAP_ASSERT(run_max_ <= kRunMost);
    // A quarter of what may be dirty, so that three quarters go on filling meanwhile; 16 MiB is enough for
    // any store.
    const std::uint32_t share = (slots.cache().pool().frames() - options.read_frames_min) / 4;
    flush_pages_ = std::clamp(share, 1u, 4096u);
    flush_.complete = flush_ended;
    flush_.owner = this;
    flush_timer_.fire = flush_timer;
    flush_timer_.owner = this;
}

void WriteOut::start() noexcept {
    start_writes();
    consider_flush();
}

void WriteOut::start_writes() noexcept {
    if (failed_ || stopped_) return;
    offer_due();
    while (runs_.has_idle()) {
        bool closed = false;
        const std::uint32_t count = head_run(&closed);
        if (count == 0) kicked_ = false;
        const bool due = closed && (part_.overdue.size > 0 || part_.dirty.size > held_pages_);
        if (count == 0 || (!due && !needs_writes())) break;
        launch();
    }
}

/// Whether short runs are better than none.
bool WriteOut::needs_writes() const noexcept {
    return kicked_ || (runs_.in_use() == 0 && events_.frames_wanted());
}

/// Lets go of what is taken elsewhere. What was lost has a place already, which is to be written again.
void WriteOut::offer_due() noexcept {
    SwapCache& cache = slots_.cache();
    while (part_.dirty.size > 0 && !cache.placed(part_.dirty.head) &&
           (part_.dirty.size > held_pages_ || events_.frames_wanted())) {
        const FrameIndex frame = part_.dirty.head;
        const SwapEvents::Offer answer = events_.offer(cache.slot_of(frame));
        if (answer == SwapEvents::Offer::kNotNow) break;
        if (answer == SwapEvents::Offer::kTaken) continue;
        cache.remove(part_.dirty, frame);
        cache.set_overdue(frame);
        cache.push_back(part_.overdue, frame);
    }
}

void WriteOut::kick() noexcept {
    kicked_ = true;
    start();
}

/// How many pages at the head of the dirty queue one write can take. `closed`: it cannot grow any more.
std::uint32_t WriteOut::head_run(bool* closed) const noexcept {
    SwapCache& cache = slots_.cache();
    FrameIndex frame = queue().head;
    if (frame == kNoFrame) return 0;
    std::uint32_t count = 1;
    for (; count < run_max_; ++count) {
        const FrameIndex next = cache.next(frame);
        if (next == kNoFrame) return count;
        if (!may_join(frame, next)) break;
        frame = next;
    }
    *closed = true;
    return count;
}

/// Whether the page behind another one in the queue may follow it in a write.
bool WriteOut::may_join(FrameIndex last, FrameIndex next) const noexcept {
    SwapCache& cache = slots_.cache();
    if (cache.placed(last) != cache.placed(next)) return false;
    if (buffers_ == nullptr && next != last + 1) return false;
    if (!cache.placed(next)) return true;
    const Place before = slots_.place_of(cache.slot_of(last));
    const Place after = slots_.place_of(cache.slot_of(next));
    if (buffers_ == nullptr) return after.first == before.end();
    return after.first >= before.end() && after.first_block() <= before.last_block() + 1;
}

void WriteOut::launch() noexcept {
    SwapCache& cache = slots_.cache();
    const FrameIndex head = queue().head;
    // One page of each run stands for all: nobody may store into a frame after add().
    FARSWAP_ASSERT(slots_.unchanged(cache.slot_of(head), cache.address(head)));
    PageRun& run = *runs_.acquire();
    run.buffer = buffers_ ? buffers_ + std::size_t{runs_.index(run)} * run_max_ * kBlockBytes : nullptr;
    const std::uint32_t blocks = cache.placed(head)      ? gather_again(run)
                                 : run.buffer != nullptr ? gather_records(run)
                                                         : gather_pages(run);
    const std::uint32_t first_block = slots_.place_of(run.slots[0]).first_block();
    runs_.prepare(run, KERNEL_WRITE, first_block, blocks, run.buffer ? run.buffer : cache.address(head));
    pages_writing_ += run.count;
    run.request.timeout = options_.io_timeout;
    run.request.complete = write_ended;
    run.retry.fire = retry_write;
    run.owner = this;
    submit(run);
}

/// The page at the head of the queue becomes part of the run.
void WriteOut::take_head(PageRun& run) noexcept {
    const FrameIndex frame = queue().head;
    const SlotId slot = slots_.cache().slot_of(frame);
    FARSWAP_ASSERT(slots_.map().count(slot) > 0);
    run.add(slot, frame);
    slots_.apply(slot, SlotEvent::kWriteStarted);
}

/// Pages that leave from their own frames, which are neighbours. How many blocks.
std::uint32_t WriteOut::gather_pages(PageRun& run) noexcept {
    bool closed = false;
    const SlotAllocator::Run blocks = part_.blocks.allocate(head_run(&closed));
    FARSWAP_ASSERT(blocks.count > 0);
    for (std::uint32_t i = 0; i < blocks.count; ++i) {
        const SlotId slot = slots_.cache().slot_of(queue().head);
        slots_.take_whole(slot);
        slots_.put_at(slot, (blocks.first + i) * kUnitsPerBlock);
        take_head(run);
    }
    return blocks.count;
}

/// Makes records, one behind the other, for as many blocks as there are together. How many blocks.
std::uint32_t WriteOut::gather_records(PageRun& run) noexcept {
    SwapCache& cache = slots_.cache();
    bool closed = false;
    const std::uint32_t most = head_run(&closed);
    const SlotAllocator::Run found = part_.blocks.allocate(most);
    FARSWAP_ASSERT(found.count > 0);
    std::uint32_t used = 0;  // units
    while (run.count < most && used < found.count * kUnitsPerBlock) {
        const FrameIndex frame = queue().head;
        const SlotId slot = cache.slot_of(frame);
        if (used + kUnitsPerBlock > run_max_ * kUnitsPerBlock) break;  // it may be as long as its page
        slots_.make_record(slot, cache.address(frame), run.buffer + std::size_t{used} * kUnitBytes);
        const std::uint32_t units = slots_.map().units(slot);
        // One that finds no place here is made once more for the next write, the same.
        if (used + units > found.count * kUnitsPerBlock) break;
        slots_.put_at(slot, found.first * kUnitsPerBlock + used);
        take_head(run);
        used += units;
    }
    const std::uint32_t blocks = blocks_for(used);
    part_.blocks.trim(found, blocks);
    std::memset(run.buffer + std::size_t{used} * kUnitBytes, 0,
                std::size_t{blocks * kUnitsPerBlock - used} * kUnitBytes);
    return blocks;
}

/// How many pages at the head of the queue, which have places, fill whole blocks: what lies in a block was
/// written together, is lost together, and follows each other in the queue.
std::uint32_t WriteOut::lost_together() const noexcept {
    SwapCache& cache = slots_.cache();
    const std::uint32_t first_block = slots_.place_of(cache.slot_of(queue().head)).first_block();
    std::uint32_t whole = 0;
    std::uint32_t count = 0;
    Place last;
    FrameIndex before = kNoFrame;
    for (FrameIndex frame = queue().head;; frame = cache.next(frame)) {
        const bool more = frame != kNoFrame && cache.placed(frame);
        const Place place = more ? slots_.place_of(cache.slot_of(frame)) : Place{};
        if (count > 0 && (!more || place.first_block() != last.last_block())) whole = count;
        if (!more || count == run_max_ || (before != kNoFrame && !may_join(before, frame)) ||
            place.last_block() - first_block >= run_max_)
            break;
        last = place;
        before = frame;
        ++count;
    }
    FARSWAP_ASSERT(whole > 0);
    return whole;
}

/// Records that have been written before and were lost: to the same places, and the same to the byte. How
/// many blocks.
std::uint32_t WriteOut::gather_again(PageRun& run) noexcept {
    SwapCache& cache = slots_.cache();
    const std::uint32_t first_block = slots_.place_of(cache.slot_of(queue().head)).first_block();
    std::array<std::uint8_t, kRunMost> records{};  // of each block, that the run has
    std::uint32_t blocks = 0;
    if (run.buffer) std::memset(run.buffer, 0, std::size_t{run_max_} * kBlockBytes);
    for (std::uint32_t left = lost_together(); left > 0; --left) {
        const FrameIndex frame = queue().head;
        const SlotId slot = cache.slot_of(frame);
        const Place place = slots_.place_of(slot);
        if (run.buffer)
            slots_.make_record(slot, cache.address(frame),
                               run.buffer + (place.offset() - block_offset(first_block)));
        for (std::uint32_t block = place.first_block(); block <= place.last_block(); ++block)
            ++records[block - first_block];
        blocks = place.last_block() - first_block + 1;
        take_head(run);
    }
    // A block that is written without one of its records loses that.
    for (std::uint32_t block = 0; block < blocks; ++block)
        FARSWAP_ASSERT(records[block] == part_.blocks.records(first_block + block));
    return blocks;
}

void WriteOut::submit(PageRun& run) noexcept {
    const During writing(Step::kWriting);
    FARSWAP_ASSERT(run.request.offset + run.request.length <= part_.store->reserved());
    run.submitted = true;
    part_.store->submit(run.request);
}

void WriteOut::retry_write(io::Timer& timer) {
    PageRun& run = *static_cast<PageRun*>(timer.owner);
    static_cast<WriteOut*>(run.owner)->submit(run);
}

void WriteOut::write_ended(Request& request, int result) {
    PageRun& run = *static_cast<PageRun*>(request.owner);
    WriteOut& self = *static_cast<WriteOut*>(run.owner);
    run.submitted = false;
    if (result >= 0) {
        FARSWAP_ASSERT(static_cast<std::uint32_t>(result) == request.length);
        self.part_.answered = io::Clock::now();
        self.pages_written_ += run.count;
        self.written_in_epoch_ += run.count;
        self.end_run(run, SlotEvent::kWriteDone);
    } else {
        const bool again = !self.stopped_ && !self.failed_ && is_transient(-result);
        if (again && (++run.failures < self.options_.attempts_max || is_outage(-result))) {
            self.loop_.arm(run.retry,
                           io::Clock::now() + retry_delay(self.options_.retry_delay, run.failures));
            return;
        }
        self.end_run(run, SlotEvent::kWriteFailed);
        self.fail_for_good("cannot write", -result);
    }
    self.start();
    self.events_.progress();
}

/// Puts the pins and tells every page of the run what became of it.
void WriteOut::end_run(PageRun& run, SlotEvent event) noexcept {
    const During writing(Step::kWriting);
    PageRunTable::unpin(run);
    pages_writing_ -= run.count;
    for (std::uint32_t i = 0; i < run.count; ++i) {
        slots_.cache().set_epoch(run.frames[i], epoch_);
        slots_.apply(run.slots[i], event);
    }
    runs_.release(run);
}

void WriteOut::consider_flush() noexcept {
    if (flush_busy_ || failed_ || stopped_ || part_.written.size == 0) return;
    if (written_in_epoch_ >= flush_pages_ || events_.frames_wanted()) {
        submit_flush();
    } else if (runs_.in_use() == 0 && !flush_timer_.armed()) {
        // Kicks may follow each other faster than the quiet time that a flush waits for: they do not begin it
        // anew.
        loop_.arm(flush_timer_, io::Clock::now() + options_.idle_flush_delay);
    }
}

void WriteOut::submit_flush() noexcept {
    const During committing(Step::kCommitting);
    loop_.cancel(flush_timer_);
    epoch_ = (epoch_ + 1) & SwapCache::kEpochMask;
    written_in_epoch_ = 0;
    // Also of one that is tried again.
    if (!std::exchange(flush_busy_, true)) flush_since_ = io::Clock::now();
    flush_submitted_ = true;
    flush_.timeout = options_.io_timeout;
    part_.store->flush(flush_);
}

void WriteOut::flush_timer(io::Timer& timer) {
    WriteOut& self = *static_cast<WriteOut*>(timer.owner);
    if (self.part_.written.size == 0) {  // its pages were freed while it waited
        self.flush_busy_ = false;
        return;
    }
    self.submit_flush();
}

void WriteOut::flush_ended(FlushRequest& flush, int result) {
    WriteOut& self = *static_cast<WriteOut*>(flush.owner);
    self.flush_busy_ = self.flush_submitted_ = false;
    if (result == 0) {
        self.flush_failures_ = 0;
        self.part_.answered = io::Clock::now();
        self.settle_flushed();
    } else if (result == -ESTALE) {
        self.settle_lost();
    } else if (!self.stopped_) {
        // After an error of the device the kernel may have dropped the data and report success the next time
        // (fsync(2), EIO): only pages written once more can become safe.
        if (result == -EIO) self.settle_lost();
        const bool enough = ++self.flush_failures_ >= self.options_.attempts_max && !is_outage(-result);
        if (!is_transient(-result) || enough) {
            self.fail_for_good("cannot flush", -result);
        } else if (self.part_.written.size != 0) {
            self.flush_busy_ = true;
            self.loop_.arm(self.flush_timer_,
                           io::Clock::now() + retry_delay(self.options_.retry_delay, self.flush_failures_));
        }
    }
    self.start();
    self.events_.progress();
}

/// The flush covered every epoch but the current one.
void WriteOut::settle_flushed() noexcept {
    const During committing(Step::kCommitting);
    SwapCache& cache = slots_.cache();
    while (part_.written.head != kNoFrame && cache.epoch(part_.written.head) != epoch_)
        slots_.apply(cache.slot_of(part_.written.head), SlotEvent::kFlushed);
}

void WriteOut::settle_lost() noexcept {
    const std::uint32_t lost = part_.written.size;
    while (part_.written.head != kNoFrame)
        slots_.apply(slots_.cache().slot_of(part_.written.head), SlotEvent::kLost);
    runs_.for_each([this](PageRun& run) {
        for (std::uint32_t i = 0; i < run.count; ++i) slots_.apply(run.slots[i], SlotEvent::kLost);
    });
    written_in_epoch_ = 0;
    kicked_ = true;
    log::warning("{} lost {} pages that it had acknowledged; they are still here and are written again",
                 part_.store->name(), lost);
}

void WriteOut::fail_for_good(const char* what, int error) noexcept {
    if (failed_ || stopped_) return;
    failed_ = true;
    loop_.cancel(flush_timer_);
    flush_busy_ = flush_submitted_;
    events_.store_failed(part_, fail_errno(error, "{}: {}, given up", part_.store->name(), what).error());
}

std::optional<io::Clock::time_point> WriteOut::waits_since() noexcept {
    std::optional<io::Clock::time_point> oldest;
    if (flush_busy_) oldest = flush_since_;
    runs_.for_each([&](const PageRun& run) { oldest = std::min(oldest.value_or(run.since), run.since); });
    return oldest;
}

void WriteOut::stop() noexcept {
    stopped_ = true;
    loop_.cancel(flush_timer_);
    flush_busy_ = flush_submitted_;
    runs_.for_each([this](PageRun& run) {
        if (run.submitted) {
            part_.store->cancel(run.request);
        } else {
            loop_.cancel(run.retry);
            end_run(run, SlotEvent::kWriteFailed);
        }
    });
}

}  // namespace farswap
