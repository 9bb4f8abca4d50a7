// The swap area's face: takes the user's calls to the parts that do the work, and wakes who waits.
#include "swap/swap_area.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/assert.h"
#include "base/log.h"
#include "swap/cache_tier.h"
#include "swap/frame_supply.h"
#include "swap/placement.h"
#include "swap/read_in.h"
#include "swap/reservation.h"
#include "swap/slots.h"
#include "swap/write_out.h"

namespace farswap {
namespace {

constexpr std::chrono::seconds kUnparkPeriod{1};
constexpr std::uint32_t kUnparkLooks = 65536;  // blocks in one go: a millisecond or so

/// Shares of a store in the room for records on their way out: at least two writes must be in flight.
WriteBuffers write_buffers_for(const SwapAreaOptions& options, std::uint32_t frames, std::size_t stores) {
    WriteBuffers buffers{options.writes_max, options.write_run_max, nullptr};
    if (!options.seal && options.compression == Compression::kOff) return buffers;
    const std::uint32_t most = options.writes_max * options.write_run_max;
    const auto share = static_cast<std::uint32_t>(frames / 8 / stores);
    const std::uint32_t pages =
        options.write_buffer_pages != 0 ? options.write_buffer_pages : std::clamp(share, 2u, most);
    buffers.writes =
        std::clamp(pages / options.write_run_max, std::min(2u, options.writes_max), options.writes_max);
    buffers.pages = std::clamp(pages / buffers.writes, 1u, options.write_run_max);
    return buffers;
}

ReadBuffers read_buffers_for(const SwapAreaOptions& options, std::uint32_t frames) {
    if (options.compression == Compression::kOff) return {};
    return {.small = std::clamp(frames / 64, 4u, 64u),
            .large = std::clamp(frames / 8 / (options.read_run_max + 1), 1u, 8u),
            .large_blocks = options.read_run_max + 1};
}

/// Memory for records that differ from their pages, in a pool of its own: null where none do.
struct Buffers {
    std::unique_ptr<Pool> pool;
    WriteBuffers per_store;  ///< of the first store; the others' follow it
    ReadBuffers for_reads;
};

Result<Buffers> make_buffers(const SwapAreaOptions& options, const Pool& pages, std::size_t stores) {
    Buffers buffers{nullptr, write_buffers_for(options, pages.frames(), stores),
                    read_buffers_for(options, pages.frames())};
    if (!options.seal && options.compression == Compression::kOff) return buffers;
    const std::size_t written = std::size_t{buffers.per_store.writes} * buffers.per_store.pages * stores;
    const std::size_t read = std::size_t{buffers.for_reads.small} * kSmallBlocks +
                             std::size_t{buffers.for_reads.large} * buffers.for_reads.large_blocks;
    auto pool = Pool::create({.frames = written + read, .lock = pages.locked(), .huge_pages = false});
    if (!pool) return std::unexpected(std::move(pool.error()));
    buffers.pool = std::move(*pool);
    const FrameRun all = buffers.pool->allocate_run(static_cast<std::uint32_t>(written + read));
    FARSWAP_ASSERT(all.count == written + read);
    buffers.per_store.memory = buffers.pool->address(all.first);
    buffers.for_reads.memory = buffers.per_store.memory + written * kPageSize;
    return buffers;
}

}  // namespace

struct SwapArea::State final : SwapEvents {
    State(std::vector<std::unique_ptr<Store>> stores_in, std::unique_ptr<Slots> slots_in, Buffers buffers,
          io::Loop& loop_in, const SwapAreaOptions& options_in);
    virtual ~State() = default;  // for clang-tidy, which sees the declaration in the header and not `final`

    void progress() noexcept override { pump(); }
    bool frames_wanted() const noexcept override {
        return frames_asked_for || is_patient() || reads.wants_frames();
    }
    void store_failed(const StorePart& part, const Error& error) noexcept override;
    Offer offer(SlotId slot) noexcept override;
    void read_took(std::chrono::nanoseconds time) noexcept override {
        if (tier) tier->share().read_took(time);
    }

    bool is_patient() const noexcept {
        return slots_asked_for && placement.patient_until() != io::Clock::time_point::max();
    }
    void ask_for_slots() noexcept;
    void urge_writes() noexcept;
    void kick_all() noexcept;
    void schedule_pump() noexcept;
    void pump() noexcept;
    void wake_user() noexcept;
    void note_parked() noexcept;
    void unpark() noexcept;
    bool quiet() const noexcept;
    void stop() noexcept;
    std::uint32_t lendable() noexcept;
    Result<SlotRun> keep(FrameRun frames, bool whole) noexcept;

    SwapArea* face = nullptr;
    SwapAreaOptions options;
    io::Loop& loop;
    std::vector<std::unique_ptr<Store>> stores;
    std::unique_ptr<Pool> buffer_pool;  ///< records on their way; null where those are the pages themselves
    std::unique_ptr<Slots> slots;
    FrameSupply frames;
    ReadIn reads;
    std::vector<std::unique_ptr<WriteOut>> writes;           ///< one a store
    std::vector<std::unique_ptr<Reservation>> reservations;  ///< one a store
    Placement placement;
    std::optional<CacheTier> tier;
    io::Timer pump_timer;
    io::Timer unpark_timer;         ///< armed while blocks are parked
    io::Timer patience_timer;       ///< somebody waits for slots of a higher priority
    bool frames_asked_for = false;  ///< take_frames() had none
    bool slots_asked_for = false;   ///< ... because no slot was left for them
    std::uint32_t lent = 0;         ///< frames of take_frames() that have not come back
    bool failure_reported = false;
    bool stopped = false;
    std::uint64_t pages_out = 0;
    std::uint64_t pages_filled = 0;
    std::uint64_t cache_hits = 0;
};

SwapArea::State::State(std::vector<std::unique_ptr<Store>> stores_in, std::unique_ptr<Slots> slots_in,
                       Buffers buffers, io::Loop& loop_in, const SwapAreaOptions& options_in)
    : options(options_in),
      loop(loop_in),
      stores(std::move(stores_in)),
      buffer_pool(std::move(buffers.pool)),
      slots(std::move(slots_in)),
      frames(*slots, options.read_frames_min),
      reads(*slots, frames, loop, options, *this, buffers.for_reads),
      placement(*slots, writes, reservations, options) {
    for (StorePart& part : slots->parts()) {
        WriteBuffers& own = buffers.per_store;
        writes.push_back(std::make_unique<WriteOut>(*slots, part, loop, options, *this, own));
        if (own.memory != nullptr) own.memory += std::size_t{own.writes} * own.pages * kPageSize;
        reservations.push_back(std::make_unique<Reservation>(*slots, part, loop, options, *this));
    }
    if (slots->packed() != nullptr && !slots->stays_in_memory())
        tier.emplace(*slots, frames, writes, slots->packed()->limit());
    pump_timer.owner = patience_timer.owner = unpark_timer.owner = this;
    pump_timer.fire =
        patience_timer.fire = [](io::Timer& timer) { static_cast<State*>(timer.owner)->pump(); };
    unpark_timer.fire = [](io::Timer& timer) { static_cast<State*>(timer.owner)->unpark(); };
}

/// The user waits for slots: until some are free, or until lower priorities are good enough.
void SwapArea::State::ask_for_slots() noexcept {
    slots_asked_for = true;
    for (const std::unique_ptr<Reservation>& reservation : reservations) reservation->consider();
    // A page counts for a whole block until it has been written, and often takes less then.
    if (tier) tier->release(options.write_run_max);
    for (std::size_t i = 0; i < writes.size(); ++i)
        if (slots->parts()[i].unplaced > 0) writes[i]->kick();
    if (!is_patient() || stopped) return;
    loop.arm(patience_timer, placement.patient_until());
    urge_writes();
}

/// Somebody waits for a frame: brings on its way what stands between dirty pages and their reuse.
void SwapArea::State::urge_writes() noexcept {
    for (const std::unique_ptr<WriteOut>& out : writes) out->start();
}

void SwapArea::State::kick_all() noexcept {
    for (const std::unique_ptr<WriteOut>& out : writes) out->kick();
}

void SwapArea::State::store_failed(const StorePart& part, const Error& error) noexcept {
    if (placement.others_go_on(part)) {
        log::warning("{}; what it has not taken stays in memory, the other stores get the rest",
                     error.message);
        return;
    }
    if (std::exchange(failure_reported, true)) return;
    if (face->store_failed)
        face->store_failed(
            {error.code, error.message + "; no more pages can leave. Check the store and its server"});
}

SwapEvents::Offer SwapArea::State::offer(SlotId slot) noexcept {
    if (!tier) return Offer::kNotNow;
    const Offer answer = tier->offer(slot);
    if (answer == Offer::kTaken && frames_wanted()) schedule_pump();
    return answer;
}

/// Has pump() run from the loop soon.
void SwapArea::State::schedule_pump() noexcept {
    if (!stopped) loop.arm(pump_timer, io::Clock::now());
}

/// Serves those who wait: reads first, then the user. From the loop only.
void SwapArea::State::pump() noexcept {
    reads.pump();
    if (stopped) return;
    note_parked();
    wake_user();
    if (slots_asked_for && tier && quiet() && tier->release(options.write_run_max)) kick_all();
    if (frames_wanted()) urge_writes();
    if (reads.wants_pump() && quiet()) schedule_pump();
}

void SwapArea::State::wake_user() noexcept {
    // A frame or two would make short runs; they are worth waking for only when no more are about to come.
    const std::uint32_t left = frames.for_writing();
    const bool frames_here = frames_asked_for && left > 0 && (left >= options.write_run_max / 4 || quiet());
    const bool slots_here = slots_asked_for && lendable() > 0;
    const bool slots_gone = slots_asked_for && face->slots_exhausted();
    if (!frames_here && !slots_here && !slots_gone) return;
    frames_asked_for = slots_asked_for = false;
    if (face->frames_available) face->frames_available();
}

/// Pages that may be asked for now.
std::uint32_t SwapArea::State::lendable() noexcept {
    const std::uint32_t slots_left = placement.lendable(lent);
    if (!slots->stays_in_memory()) return slots_left;
    const PackedPages* const packed = slots->packed();
    return static_cast<std::uint32_t>(
        std::min<std::uint64_t>(slots_left, packed->room() - std::min<std::uint64_t>(packed->room(), lent)));
}

/// Compresses pages and keeps them, up to the first one that gets no smaller.
Result<SlotRun> SwapArea::State::keep(FrameRun frames_in, bool whole) noexcept {
    SlotRun run{kNoSlot, 0};
    for (; run.count < frames_in.count; ++run.count) {
        const std::byte* const page = slots->cache().address(frames_in.first + run.count);
        const auto word = fill_word(page);
        const auto record = word    ? std::span<const std::byte>()
                            : whole ? std::span(page, kPageSize)
                                    : slots->pack_to_keep(page);
        if (record.size() == kPageSize && !whole) {
            if (run.count == 0) return fail(EFBIG, "no smaller");  // short enough to need no memory
            break;
        }
        const SlotRun slot = placement.allocate(1);
        if (slot.count == 0) break;
        const bool in_turn = run.count == 0 || slot.first == run.first + run.count;
        if (!in_turn || (!word && !slots->add_packed(slot.first, page, record))) {
            slots->give_back(slot.first);
            // There is room, but not for one more of that length.
            if (run.count == 0 && slots->packed()->room() > 0) return fail(EFBIG, "no smaller");
            break;
        }
        if (word) slots->add_filled(slot.first, *word);
        pages_filled += word.has_value();
        if (run.count == 0) run.first = slot.first;
    }
    if (run.count == 0) return fail(ENOSPC, "no free slot");
    lent -= run.count;
    frames.give_back({frames_in.first, run.count});
    pages_out += run.count;
    if (frames_wanted() || slots_asked_for) schedule_pump();
    return run;
}

/// Freed or new blocks that a late write may still hit come into use when the store says that it cannot.
void SwapArea::State::note_parked() noexcept {
    const bool any =
        std::ranges::any_of(slots->parts(), [](const StorePart& part) { return part.blocks.parked() > 0; });
    if (any && !stopped && !unpark_timer.armed()) loop.arm(unpark_timer, io::Clock::now() + kUnparkPeriod);
}

void SwapArea::State::unpark() noexcept {
    for (StorePart& part : slots->parts()) part.blocks.unpark(kUnparkLooks);
    note_parked();
    pump();
}

bool SwapArea::State::quiet() const noexcept {
    return reads.quiet() && std::ranges::all_of(writes, [](const auto& out) { return out->quiet(); }) &&
           std::ranges::all_of(reservations, [](const auto& reservation) { return reservation->quiet(); });
}

void SwapArea::State::stop() noexcept {
    stopped = true;
    loop.cancel(pump_timer);
    loop.cancel(unpark_timer);
    loop.cancel(patience_timer);
    for (const std::unique_ptr<Reservation>& reservation : reservations) reservation->stop();
    for (const std::unique_ptr<WriteOut>& out : writes) out->stop();
    reads.stop();
}

SwapArea::SwapArea(std::unique_ptr<State> state) : state_(std::move(state)) {
    state_->face = this;
}

SwapArea::~SwapArea() {
    if (!state_->stopped) state_->stop();
    // Requests in flight point into the state: better kept than freed under them.
    if (!state_->quiet()) static_cast<void>(state_.release());
}

Result<std::unique_ptr<SwapArea>> SwapArea::create(Pool& pool, io::Loop& loop,
                                                   std::vector<std::unique_ptr<Store>> stores,
                                                   const SwapAreaOptions& options) {
    FARSWAP_ASSERT(options.write_run_max > 0 && options.read_run_max > 0 && options.writes_max > 0);
    FARSWAP_ASSERT(options.reads_max > 0 && options.attempts_max > 0 && options.read_frames_min > 0);
    if (pool.frames() <= options.read_frames_min)
        return fail(EINVAL, "a pool of {} frames is too small: {} are kept for reads", pool.frames(),
                    options.read_frames_min);
    Result<PageRecords> records = PageRecords::create({.outside = options.seal && options.keep_in_memory == 0,
                                                       .inside = options.seal && options.seal_memory},
                                                      options.compression, options.births);
    if (!records) return std::unexpected(std::move(records.error()));
    Result<std::unique_ptr<Slots>> slots = Slots::create(pool, stores, std::move(*records));
    if (!slots) return std::unexpected(std::move(slots.error()));
    if (options.keep_in_memory > 0) {
        if (auto kept = (*slots)->keep_in_memory(options.keep_in_memory); !kept)
            return std::unexpected(std::move(kept.error()));
    }
    if (options.keep_in_memory == 0 && options.cache_tier > 0 && options.compression != Compression::kOff) {
        if (auto kept = (*slots)->keep_on_the_way(options.cache_tier); !kept)
            return std::unexpected(std::move(kept.error()));
    }
    SwapAreaOptions for_buffers = options;
    if (options.keep_in_memory > 0) for_buffers.seal = false, for_buffers.compression = Compression::kOff;
    Result<Buffers> buffers = make_buffers(for_buffers, pool, stores.size());
    if (!buffers) return std::unexpected(std::move(buffers.error()));
    auto state =
        std::make_unique<State>(std::move(stores), std::move(*slots), std::move(*buffers), loop, options);
    return std::unique_ptr<SwapArea>(new SwapArea(std::move(state)));
}

FrameRun SwapArea::take_frames(std::uint32_t count_max, bool no_matter) noexcept {
    const std::uint32_t slots = state_->lendable();
    if (slots == 0 && count_max > 0) {
        if (!no_matter) state_->ask_for_slots();
        return {};
    }
    FrameRun run;
    if (!state_->reads.wants_frames()) run = state_->frames.take_for_writing(std::min(count_max, slots));
    if (run.count == 0 && count_max > 0 && !no_matter) {
        state_->frames_asked_for = true;
        state_->urge_writes();
    }
    state_->lent += run.count;
    return run;
}

void SwapArea::return_frames(FrameRun run) noexcept {
    FARSWAP_ASSERT(run.count <= state_->lent);
    state_->lent -= run.count;
    state_->frames.give_back(run);
    if (state_->frames_wanted() || state_->slots_asked_for) state_->schedule_pump();
}

Result<SlotRun> SwapArea::add(FrameRun frames, bool whole) noexcept {
    if (keeps_in_memory()) return state_->keep(frames, whole);
    const SlotRun run = state_->placement.allocate(frames.count);
    if (run.count == 0) return fail(ENOSPC, "no free slot");  // short enough to need no memory
    FARSWAP_ASSERT(run.count <= state_->lent);
    state_->lent -= run.count;
    std::uint32_t filled = 0;
    for (std::uint32_t i = 0; i < run.count; ++i) {
        const FrameIndex frame = frames.first + i;
        if (const auto word = fill_word(state_->slots->cache().address(frame))) {
            state_->slots->add_filled(run.first + i, *word);
            state_->frames.give_back({frame, 1});
            ++filled;
        } else {
            state_->slots->add(run.first + i, frame);
        }
    }
    state_->pages_out += run.count;
    state_->pages_filled += filled;
    // Pages of one word have given back a frame and a place that others may wait for.
    if (filled > 0 && (state_->frames_wanted() || state_->slots_asked_for)) state_->schedule_pump();
    const StorePart& part = state_->slots->part_of(run.first);
    state_->writes[static_cast<std::size_t>(&part - state_->slots->parts().data())]->start();
    return run;
}

bool SwapArea::holds(SlotId slot, FrameIndex frame) const noexcept {
    FARSWAP_ASSERT(count(slot) > 0);
    return state_->slots->holds(slot, state_->slots->cache().address(frame));
}

bool SwapArea::worth_keeping(SlotId slot) const noexcept {
    const SlotState state = state_->slots->map().state(slot);
    return is_safe(state) && slots_short() == 0;
}

void SwapArea::note_back(SlotId slot) noexcept {
    if (state_->tier) state_->tier->note_back(slot);
}

void SwapArea::add_unchanged(SlotId slot, FrameIndex frame) noexcept {
    FARSWAP_ASSERT(count(slot) > 0);
    if (state_->tier) {
        state_->tier->offer_unchanged(slot, state_->slots->cache().address(frame));
        for (const std::unique_ptr<WriteOut>& out : state_->writes) out->start();
    }
    return_frames({frame, 1});
}

std::uint32_t SwapArea::slots_short() const noexcept {
    return state_->placement.shortage();
}

void SwapArea::kick_writes() noexcept {
    state_->kick_all();
}

void SwapArea::release_memory() noexcept {
    if (state_->tier && state_->tier->release(4 * state_->options.write_run_max)) state_->kick_all();
}

void SwapArea::limit_cache_tier(std::uint64_t most) noexcept {
    if (state_->tier) state_->tier->share().set_most(most);
}

void SwapArea::note_fault_cost(std::chrono::nanoseconds cost) noexcept {
    if (state_->tier) state_->tier->share().fault_costs(cost);
}

std::uint64_t SwapArea::bytes_packed() const noexcept {
    const PackedPages* const packed = state_->slots->packed();
    return packed ? packed->bytes() : 0;
}

void SwapArea::get(SlotId slot) noexcept {
    FARSWAP_ASSERT(count(slot) > 0);
    state_->slots->get(slot);
}

void SwapArea::put(SlotId slot) noexcept {
    if (!state_->slots->put(slot)) return;
    state_->reads.forget(slot);
    state_->note_parked();
    if (state_->frames_wanted() || state_->slots_asked_for) state_->schedule_pump();
}

std::uint32_t SwapArea::count(SlotId slot) const noexcept {
    return state_->slots->map().count(slot);
}

bool SwapArea::is_dirty(SlotId slot) const noexcept {
    return state_->slots->map().state(slot) == SlotState::kDirty;
}

bool SwapArea::is_in_memory(SlotId slot) const noexcept {
    return has_content(state_->slots->map().state(slot));
}

const std::byte* SwapArea::lookup(SlotId slot) const noexcept {
    Slots& slots = *state_->slots;
    FARSWAP_ASSERT(slots.map().count(slot) > 0);
    const SlotState state = slots.map().state(slot);
    if (!has_content(state)) return nullptr;
    ++state_->cache_hits;
    if (state == SlotState::kFilled) return slots.fill_page(slot);
    if (is_packed(state)) {
        if (state_->tier) state_->tier->note_found(slot);
        return slots.packed_page(slot);
    }
    slots.note_use(slot);
    return slots.cache().address(slots.map().frame(slot));
}

void SwapArea::fetch(SlotFetch& fetch) noexcept {
    if (state_->tier && !has_content(state_->slots->map().state(fetch.slot))) state_->tier->share().missed();
    if (state_->reads.fetch(fetch)) state_->schedule_pump();
}

void SwapArea::prefetch(SlotRun run) noexcept {
    state_->reads.prefetch(run);
}

void SwapArea::cancel_fetch(SlotFetch& fetch) noexcept {
    ReadIn::cancel(fetch);
}

std::string SwapArea::describe(SlotId slot) const {
    const StorePart& part = state_->slots->part_of(slot);
    if (keeps_in_memory()) return fmt::format("slot {} (in memory)", slot);
    const Place place = state_->slots->place_of(slot);
    if (place.units == 0) return fmt::format("slot {} ({}, not written yet)", slot, part.store->name());
    return fmt::format("slot {} ({} at byte {})", slot, part.store->name(), place.offset());
}

bool SwapArea::keeps_in_memory() const noexcept {
    return state_->slots->stays_in_memory();
}

bool SwapArea::slots_exhausted() const noexcept {
    if (keeps_in_memory() && state_->slots->packed()->room() == 0) return true;
    return state_->placement.exhausted();
}

void SwapArea::try_to_grow() noexcept {
    for (const std::unique_ptr<Reservation>& reservation : state_->reservations) reservation->try_again();
}

std::uint64_t SwapArea::slots_used() const noexcept {
    std::uint64_t used = 0;
    for (const StorePart& part : state_->slots->parts()) used += part.slots.used();
    return used;
}

std::uint64_t SwapArea::slots_capacity() const noexcept {
    if (keeps_in_memory()) return state_->slots->packed()->limit() / kPageSize;
    std::uint64_t blocks = 0;
    for (const StorePart& part : state_->slots->parts()) blocks += part.blocks.capacity();
    return blocks;
}

SwapArea::Counters SwapArea::counters() const noexcept {
    Slots& slots = *state_->slots;
    Counters counters;
    counters.pages_out = state_->pages_out;
    counters.pages_filled = state_->pages_filled;
    if (const PackedPages* packed = slots.packed()) {
        counters.pages_packed = packed->records();
        counters.bytes_packed = packed->bytes();
        counters.pages_packed_at_peak = packed->records_at_peak();
        counters.bytes_packed_peak = packed->bytes_peak();
    }
    if (state_->tier) {
        counters.tier_found = state_->tier->pages_found();
        counters.tier_written_back = state_->tier->pages_written_back();
        counters.tier_limit = state_->tier->share().limit();
    }
    for (const std::unique_ptr<WriteOut>& out : state_->writes)
        counters.pages_written += out->pages_written();
    counters.pages_in = state_->reads.pages_read();
    counters.cache_hits = state_->cache_hits;
    counters.frames_clean = slots.frames_clean();
    counters.frames_dirty = slots.frames_cached() - slots.frames_clean();
    counters.frames_free = slots.cache().pool().free_frames();
    return counters;
}

std::uint32_t SwapArea::seal_epoch() const noexcept {
    return state_->slots->seal_epoch();
}

const std::vector<std::unique_ptr<Store>>& SwapArea::stores() const noexcept {
    return state_->stores;
}

SwapArea::UnderWay SwapArea::under_way() const noexcept {
    UnderWay found;
    for (const std::unique_ptr<WriteOut>& out : state_->writes) {
        found.writes += out->writes_under_way();
        found.flushes += out->is_flushing() ? 1 : 0;
    }
    for (const StorePart& part : std::as_const(*state_->slots).parts())
        found.pages_uncommitted += part.written.size;
    found.reads = state_->reads.reads_under_way();
    return found;
}

std::vector<StoreWait> SwapArea::waits() const {
    std::vector<StoreWait> waits;
    for (std::size_t i = 0; i < state_->stores.size(); ++i) {
        const StorePart& part = state_->slots->parts()[i];
        const auto write = state_->writes[i]->waits_since();
        const auto read = state_->reads.waits_since(part);
        if (!write && !read) continue;
        const auto oldest = std::min(write.value_or(io::Clock::time_point::max()),
                                     read.value_or(io::Clock::time_point::max()));
        waits.push_back({part.store, std::max(oldest, part.answered)});
    }
    return waits;
}

void SwapArea::shutdown(std::chrono::milliseconds limit) noexcept {
    if (state_->stopped) return;
    state_->stop();
    const io::Clock::time_point end = io::Clock::now() + limit;
    while (!state_->quiet() && io::Clock::now() < end) state_->loop.run_once(end - io::Clock::now());
    if (!state_->quiet()) {
        log::warning(
            "I/O is still in flight {} ms after the end of the job; its stores are left as they are. "
            "`farswap check --clean URL` removes what remains",
            limit.count());
        return;
    }
    for (const std::unique_ptr<Store>& store : state_->stores) store->close();
}

}  // namespace farswap
