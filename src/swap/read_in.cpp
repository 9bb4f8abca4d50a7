// Read-in: windows, verification, waiters. See read_in.h for the places where a fetch can be.
#include "swap/read_in.h"

#include <algorithm>
#include <bit>

#include "base/assert.h"
#include "base/log.h"
#include "swap/retry.h"

namespace farswap {

ReadIn::ReadIn(Slots& slots, FrameSupply& frames, io::Loop& loop, const SwapAreaOptions& options,
               SwapEvents& events, const ReadBuffers& buffers)
    : slots_(slots),
      frames_(frames),
      loop_(loop),
      options_(options),
      events_(events),
      runs_(options.reads_max, options.read_run_max, buffers.large_blocks),
      small_(buffers.memory, buffers.small, kSmallBlocks),
      large_(buffers.memory + std::size_t{buffers.small} * kSmallBlocks * kBlockBytes, buffers.large,
             buffers.large_blocks) {}

bool ReadIn::fetch(SlotFetch& fetch) noexcept {
    FARSWAP_ASSERT(fetch.list == nullptr && fetch.ready != nullptr);
    FARSWAP_ASSERT(slots_.map().count(fetch.slot) > 0);
    fetch.outcome = 0;
    if (stopped_) return false;
    if (has_content(slots_.map().state(fetch.slot))) {
        hits_.push_back(fetch);
        return true;
    }
    const bool in_flight = slots_.map().state(fetch.slot) == SlotState::kReading;
    if ((in_flight || starved_.empty()) && serve(fetch)) return false;
    starved_.push_back(fetch);
    return true;
}

void ReadIn::cancel(SlotFetch& fetch) noexcept {
    if (fetch.list) fetch.list->remove(fetch);
}

void ReadIn::forget(SlotId slot) noexcept {
    for (FetchList* list : {&hits_, &starved_, delivering_})
        for (SlotFetch* fetch = list ? list->head : nullptr; fetch; fetch = fetch->next)
            if (fetch->slot == slot) fetch->outcome = -ECANCELED;
}

/// Answers the fetch, joins the read of its page or starts one. False when it has to wait for a frame or a
/// run. The fetch is on no list.
bool ReadIn::serve(SlotFetch& fetch) noexcept {
    if (fetch.outcome != 0) {
        fetch.ready(fetch, nullptr, fetch.outcome);
        return true;
    }
    const SlotState state = slots_.map().state(fetch.slot);
    if (is_cached(state)) {
        deliver_hit(fetch);
        return true;
    }
    if (state == SlotState::kFilled) {
        fetch.ready(fetch, slots_.fill_page(fetch.slot), 0);
        return true;
    }
    if (is_packed(state)) {
        fetch.ready(fetch, slots_.packed_page(fetch.slot), 0);
        return true;
    }
    if (state == SlotState::kReading) {
        slots_.cache().waiters(slots_.map().frame(fetch.slot)).push_back(fetch);
        return true;
    }
    FARSWAP_ASSERT(state == SlotState::kStored);
    return launch(fetch);
}

/// Reads the largest part of the window for which there are neighbouring frames.
bool ReadIn::launch(SlotFetch& fetch) noexcept {
    PageRun* run = prepare(fetch.slot, readable_around(fetch.slot, fetch.window));
    if (run == nullptr) return false;
    slots_.cache().waiters(slots_.map().frame(fetch.slot)).push_back(fetch);
    submit(*run);
    return true;
}

void ReadIn::prefetch(SlotRun wanted) noexcept {
    if (stopped_ || !starved_.empty()) return;
    const StorePart& part = slots_.part_of(wanted.first);
    const SlotId end =
        wanted.first + std::min(wanted.count, part.base + part.slots.capacity() - wanted.first);
    for (SlotId slot = wanted.first; slot < end; ++slot) {
        if (slots_.map().state(slot) != SlotState::kStored) continue;
        // Room is left for what somebody waits for.
        if (frames_.for_reading() < 2 * options_.read_run_max) return;
        if (runs_.in_use() >= options_.reads_max / 2) return;
        PageRun* run = prepare(slot, readable_around(slot, {slot, end - slot}));
        if (run == nullptr) return;
        slot = run->slots[run->count - 1];
        submit(*run);
    }
}

/// A read of `wanted`, or of the part of it around `slot` for which there are frames and a buffer; null when
/// there are none. What nobody waits for takes no more than a quarter of the frames that are left for
/// reading, so that it cannot starve the faults to come.
PageRun* ReadIn::prepare(SlotId slot, SlotRun wanted) noexcept {
    const std::uint32_t frames_left = frames_.for_reading();
    if (frames_left == 0 || !runs_.has_idle()) return nullptr;
    std::byte* buffer = nullptr;
    if (!take_buffer(wanted, &buffer)) {
        wanted = {slot, 1};
        if (!take_buffer(wanted, &buffer)) return nullptr;
    }
    const FrameRun frames = frames_.take_for_reading(std::min(wanted.count, std::max(frames_left / 4, 1u)));
    if (frames.count == 0) {
        give_buffer(buffer);
        return nullptr;
    }
    // Too few frames for all: what lies behind the wanted page is more likely to be used than what lies
    // before it.
    if (frames.count < wanted.count) {
        const SlotId last_first = wanted.first + (wanted.count - frames.count);
        wanted = {std::min(slot, last_first), frames.count};
        // A part of what fits the buffer fits it, too; a part of pages that are whole blocks are such pages.
    }
    PageRun& run = *runs_.acquire();
    run.buffer = buffer;
    for (std::uint32_t i = 0; i < wanted.count; ++i) {
        run.add(wanted.first + i, frames.first + i);
        slots_.start_read(wanted.first + i, frames.first + i);
    }
    const Span span = span_of(wanted);
    runs_.prepare(run, KERNEL_READ, span.first_block, span.blocks,
                  buffer ? buffer : slots_.cache().address(frames.first));
    run.request.timeout = options_.io_timeout;
    run.request.complete = read_ended;
    run.retry.fire = retry_read;
    run.owner = this;
    return &run;
}

/// The blocks that hold the records of slots whose places follow each other.
ReadIn::Span ReadIn::span_of(SlotRun run) const noexcept {
    const std::uint32_t first = slots_.place_of(run.first).first_block();
    const std::uint32_t last = slots_.place_of(run.first + run.count - 1).last_block();
    return {first, last - first + 1};
}

/// Whether the blocks can be read straight into the frames of their pages.
bool ReadIn::is_direct(SlotRun run) const noexcept {
    const std::uint32_t blocks = span_of(run).blocks;
    if (run.count == 1) return blocks == 1;
    const Place first = slots_.place_of(run.first);
    const Place last = slots_.place_of(run.first + run.count - 1);
    return blocks == run.count && last.end() - first.first == std::uint64_t{run.count} * kUnitsPerBlock;
}

/// False: the pages need a buffer, and none is idle.
bool ReadIn::take_buffer(SlotRun run, std::byte** buffer) noexcept {
    *buffer = nullptr;
    if (is_direct(run)) return true;
    const std::uint32_t blocks = span_of(run).blocks;
    if (blocks <= small_.blocks()) *buffer = small_.take();
    if (*buffer == nullptr && blocks <= large_.blocks()) *buffer = large_.take();
    return *buffer != nullptr;
}

void ReadIn::give_buffer(std::byte* buffer) noexcept {
    if (buffer != nullptr) (small_.owns(buffer) ? small_ : large_).give(buffer);
}

/// The slots around `slot`, inside the window and on its store, whose pages are outside and whose records
/// follow each other. At most read_run_max.
SlotRun ReadIn::readable_around(SlotId slot, SlotRun window) const noexcept {
    if (window.count == 0 || slot - window.first >= window.count) window = {slot, 1};
    const StorePart& part = slots_.part_of(slot);
    const SlotId low = std::max(window.first, part.base);
    const std::uint64_t part_end = std::uint64_t{part.base} + part.slots.capacity();
    const std::uint64_t high = std::min(std::uint64_t{window.first} + window.count, part_end);
    const auto follows = [this](SlotId before, SlotId after, SlotId outside) {
        return slots_.map().state(outside) == SlotState::kStored &&
               slots_.place_of(after).first == slots_.place_of(before).end();
    };
    SlotId first = slot;
    SlotId end = slot + 1;
    while (end < high && end - first < options_.read_run_max && follows(end - 1, end, end)) ++end;
    while (first > low && end - first < options_.read_run_max && follows(first - 1, first, first - 1))
        --first;
    return {first, end - first};
}

void ReadIn::submit(PageRun& run) noexcept {
    Store& store = *slots_.part_of(run.slots[0]).store;
    FARSWAP_ASSERT(run.request.offset + run.request.length <= store.reserved());
    run.submitted = true;
    store.submit(run.request);
}

void ReadIn::retry_read(io::Timer& timer) {
    PageRun& run = *static_cast<PageRun*>(timer.owner);
    static_cast<ReadIn*>(run.owner)->submit(run);
}

void ReadIn::read_ended(Request& request, int result) {
    PageRun& run = *static_cast<PageRun*>(request.owner);
    ReadIn& self = *static_cast<ReadIn*>(run.owner);
    run.submitted = false;
    if (result < 0 && !self.stopped_ && is_transient(-result) &&
        (++run.failures < self.options_.attempts_max || is_outage(-result))) {
        self.loop_.arm(run.retry, io::Clock::now() + retry_delay(self.options_.retry_delay, run.failures));
        return;
    }
    FARSWAP_ASSERT(result < 0 || static_cast<std::uint32_t>(result) == request.length);
    if (result >= 0) {
        self.pages_read_ += run.count;
        self.slots_.part_of(run.slots[0]).answered = io::Clock::now();
    }
    if (result >= 0 && self.ask_other_copy(run)) return;
    // A copy that could be read was wrong: this is what counts.
    const bool was_wrong = result < 0 && request.avoid != 0;
    self.end_run(run, was_wrong ? -EILSEQ : std::min(result, 0));
    self.events_.progress();
}

/// Reads the one page of the run again from a copy that has not been found wrong. False: it is right, or
/// there is none.
bool ReadIn::ask_other_copy(PageRun& run) noexcept {
    const StorePart& part = slots_.part_of(run.slots[0]);
    const std::uint32_t copies = part.store->copies();
    if (copies == 1 || run.count > 1 || stopped_) return false;
    if (slots_.map().state(run.slots[0]) == SlotState::kOrphanReading || open_page(run, 0)) return false;
    const std::uint32_t all = (1u << copies) - 1;
    Request& request = run.request;
    request.avoid = static_cast<std::uint8_t>(request.avoid | 1u << request.source);
    if (request.avoid == all) return false;
    run.opened = Opened::kNotTried;
    // All of a copy may be wrong: a line for each page would help nobody.
    if (std::has_single_bit(++wrong_copies_))
        log::warning("{}: copy {} of the page at byte {} does not match its {}; another is read ({} so far)",
                     part.store->name(), request.source + 1, request.offset,
                     slots_.sealed() ? "seal" : "checksum", wrong_copies_);
    submit(run);
    return true;
}

/// Makes a page of the record that was read. False: it is not the one that was written.
bool ReadIn::open_page(PageRun& run, std::uint32_t index) noexcept {
    if (run.opened != Opened::kNotTried) return run.opened == Opened::kRight;
    const SlotId slot = run.slots[index];
    const bool right = slots_.open_record(slot, run.record(slots_.place_of(slot)),
                                          slots_.cache().address(run.frames[index]));
    if (run.count == 1) run.opened = right ? Opened::kRight : Opened::kWrong;
    return right;
}

/// First settles every page, so that the neighbours of a page can be looked up while its fetch is answered;
/// then answers; then puts the pins, which kept the content in place although `ready` may have freed slots
/// and frames.
void ReadIn::end_run(PageRun& run, int error) noexcept {
    std::byte* const buffer = std::exchange(run.buffer, nullptr);
    if (buffer != nullptr) runs_.pin_frames(run, slots_.cache());
    for (std::uint32_t i = 0; i < run.count; ++i) settle_page(run, i, error);
    give_buffer(buffer);
    delivering_ = &run.delivery;
    if (!run.delivery.empty()) events_.read_took(io::Clock::now() - run.since);
    while (SlotFetch* fetch = run.delivery.pop_front()) {
        const std::byte* data = nullptr;
        if (fetch->outcome == 0) {
            data = slots_.cache().address(run.frames[fetch->slot - run.slots[0]]);
            if (is_cached(slots_.map().state(fetch->slot))) slots_.note_use(fetch->slot);
        }
        fetch->ready(*fetch, data, fetch->outcome);
    }
    delivering_ = nullptr;
    PageRunTable::unpin(run);
    runs_.release(run);
}

/// Verifies the page, changes its slot's state and moves those who wait for it to where they belong now.
void ReadIn::settle_page(PageRun& run, std::uint32_t index, int error) noexcept {
    const SlotId slot = run.slots[index];
    const FrameIndex frame = run.frames[index];
    const bool orphan = slots_.map().state(slot) == SlotState::kOrphanReading;
    FetchList& waiters = slots_.cache().waiters(frame);
    // An error of a run says nothing of its pages one by one: those that are waited for are read alone.
    bool again = error != 0 && run.count > 1 && !orphan && !stopped_;

    if (error == 0 && !orphan && !open_page(run, index)) {
        error = -EILSEQ;
        const StorePart& part = slots_.part_of(slot);
        // Alone, it is asked for in another copy.
        again = part.store->copies() > 1 && run.count > 1 && !stopped_;
        if (!again)
            log::warning(
                "the page in slot {} ({} at byte {}) does not match its {}: the store lost or changed it",
                slot, part.store->name(), slots_.place_of(slot).offset(),
                slots_.sealed() ? "seal" : "checksum");
    }
    while (SlotFetch* fetch = waiters.pop_front()) {
        if (again) {
            fetch->window = {};
            starved_.push_back(*fetch);
        } else {
            fetch->outcome = orphan ? -ECANCELED : error;
            run.delivery.push_back(*fetch);
        }
    }
    slots_.apply(slot, error == 0 ? SlotEvent::kReadDone : SlotEvent::kReadFailed);
}

void ReadIn::deliver_hit(SlotFetch& fetch) noexcept {
    // The pin keeps the content in place while `ready` runs, whatever it frees.
    const std::byte* data = slots_.cache().address(slots_.map().frame(fetch.slot));
    page* pin = nullptr;
    const int pinned = get_kernel_page(reinterpret_cast<unsigned long>(data), 0, &pin);
    FARSWAP_ASSERT(pinned == 1);
    slots_.note_use(fetch.slot);
    fetch.ready(fetch, data, 0);
    put_page(pin);
}

void ReadIn::pump() noexcept {
    // A fetch made from inside `ready` waits for the next round, so that a round ends.
    std::size_t hits = 0;
    for (const SlotFetch* fetch = hits_.head; fetch; fetch = fetch->next) ++hits;
    for (; hits > 0 && !hits_.empty(); --hits) {
        SlotFetch* fetch = hits_.pop_front();
        if (!serve(*fetch)) starved_.push_back(*fetch);
    }
    while (SlotFetch* fetch = starved_.pop_front()) {
        if (serve(*fetch)) continue;
        // Back to the front: it keeps its turn.
        FetchList rest;
        rest.push_back(*fetch);
        while (SlotFetch* other = starved_.pop_front()) rest.push_back(*other);
        while (SlotFetch* other = rest.pop_front()) starved_.push_back(*other);
        break;
    }
}

std::optional<io::Clock::time_point> ReadIn::waits_since(const StorePart& part) noexcept {
    std::optional<io::Clock::time_point> oldest;
    runs_.for_each([&](const PageRun& run) {
        if (part.holds(run.slots[0])) oldest = std::min(oldest.value_or(run.since), run.since);
    });
    return oldest;
}

void ReadIn::cancel_all(FetchList& list) noexcept {
    while (SlotFetch* fetch = list.pop_front()) fetch->ready(*fetch, nullptr, -ECANCELED);
}

void ReadIn::stop() noexcept {
    stopped_ = true;
    cancel_all(hits_);
    cancel_all(starved_);
    runs_.for_each([this](PageRun& run) {
        if (run.submitted) {
            slots_.part_of(run.slots[0]).store->cancel(run.request);
        } else {
            loop_.cancel(run.retry);
            end_run(run, -ECANCELED);
        }
    });
}

}  // namespace farswap
