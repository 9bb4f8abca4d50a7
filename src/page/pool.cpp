// The pool: its memory, its frame table, and its beginning and end.
#include "page/pool.h"

#include <algorithm>
#include <cerrno>
#include <new>
#include <utility>

#include "base/assert.h"
#include "base/log.h"
#include "farswap/request.h"
#include "page/frame_table.h"
#include "page/mapping.h"
#include "page/registry.h"

namespace farswap {

struct Pool::State {
    State(Mapping frame_memory, Mapping table_storage, std::uint32_t frames)
        : memory(std::move(frame_memory)),
          storage(std::move(table_storage)),
          table({storage.data(), storage.size()}, memory.data(), frames) {}

    Mapping memory;
    Mapping storage;
    int prepare(std::uint32_t count) noexcept;

    FrameTable table;
    bool locked = false;
};

int Pool::State::prepare(std::uint32_t count) noexcept {
    const std::uint32_t first = table.added();
    count = std::min(count, table.size() - first);
    if (const int error = locked ? memory.populate(first * kPageSize, count * kPageSize) : 0) return error;
    table.add(count);
    return 0;
}

namespace {

constexpr std::size_t kFramesMax = std::size_t{1} << 31;

/// Locks both mappings or neither. 0 or an errno.
int lock_both(Mapping& memory, Mapping& storage) noexcept {
    if (const int error = memory.lock()) return error;
    if (const int error = storage.lock()) {
        memory.unlock();
        return error;
    }
    return 0;
}

/// Whether a pool of so many frames, and what others will lock, could be locked now: 0 or an errno. Takes no
/// memory.
int try_to_lock(std::uint32_t frames, std::size_t spare) {
    auto pages = Mapping::anonymous(std::size_t{frames} * kPageSize + spare);
    auto table = Mapping::anonymous(FrameTable::bytes_for(frames));
    return pages && table ? lock_both(*pages, *table) : ENOMEM;
}

/// How many frames there will be: all that were asked for, unless only fewer can be locked. What a process
/// has locked already is told nowhere to the byte, so that it is tried, a sixteenth less each time.
Result<std::uint32_t> frames_to_serve(const PoolOptions& options) {
    auto frames = static_cast<std::uint32_t>(options.frames);
    if (!options.lock || options.locked_least == 0) return frames;
    int error = try_to_lock(frames, options.lock_spare);
    while (error == ENOMEM && frames > options.locked_least) {
        const auto fewer = std::max<std::size_t>(frames - (frames + 15) / 16, options.locked_least);
        frames = static_cast<std::uint32_t>(fewer);
        error = try_to_lock(frames, options.lock_spare);
    }
    if (error != 0)
        return fail_errno(error,
                          "cannot lock the page pool's {} KiB in memory (raise `ulimit -l` or run as root)",
                          (std::size_t{frames} * kPageSize + options.lock_spare) / 1024);
    return frames;
}

std::size_t report_pins(const FrameTable& table) {
    std::size_t pins = 0;
    for (std::uint32_t frame = 0; frame < table.size(); ++frame) {
        const FrameWord word = table.word(frame);
        if (word.all_pins() == 0) continue;
        log::warning(
            "page pool ends with frame {} still pinned ({} for reading, {} for writing); its memory is kept",
            frame, word.read_pins(), word.write_pins());
        pins += word.all_pins();
    }
    return pins;
}

}  // namespace

Result<std::unique_ptr<Pool>> Pool::create(const PoolOptions& options) {
    if (options.frames == 0 || options.frames > kFramesMax) {
        return fail(EINVAL, "a page pool of {} frames is not possible: take 1 to {}", options.frames,
                    kFramesMax);
    }
    const auto frames = frames_to_serve(options);
    if (!frames) return std::unexpected(frames.error());
    auto memory = Mapping::memfd("farswap-pool", std::size_t{*frames} * kPageSize);
    if (!memory) return std::unexpected(std::move(memory.error()));
    auto storage = Mapping::anonymous(FrameTable::bytes_for(*frames));
    if (!storage) return std::unexpected(std::move(storage.error()));

    if (options.huge_pages) memory->advise_huge();
    if (!options.children_have_it) memory->keep_from_children();
    const int lock_error = options.lock ? lock_both(*memory, *storage) : 0;
    if (lock_error != 0 && options.locked_least > 0)
        return fail_errno(lock_error, "cannot lock the page pool's {} KiB in memory", memory->size() / 1024);
    const bool locked = options.lock && lock_error == 0;
    auto state = std::make_unique<State>(std::move(*memory), std::move(*storage), *frames);
    state->locked = locked;
    const auto ready = static_cast<std::uint32_t>(options.frames_ready == 0 ? *frames : options.frames_ready);
    if (const int error = state->prepare(ready))
        return fail_errno(error, "there is no memory for a page pool of {} KiB", state->memory.size() / 1024);
    if (!registry::add(state->table)) {
        return fail(EMFILE, "a process has at most {} page pools", registry::kPoolsMax);
    }
    return std::unique_ptr<Pool>(new Pool(std::move(state)));
}

Pool::Pool(std::unique_ptr<State> state) : state_(std::move(state)) {}

Pool::~Pool() {
    close();
}

std::size_t Pool::close() noexcept {
    if (!state_) return 0;
    FrameTable& table = state_->table;
    registry::retire(table);
    const std::size_t pins = report_pins(table);
    if (pins == 0) {
        table.settle();
        registry::remove(table);
        state_.reset();
    } else {
        // For ever: I/O may still be using the memory, and the pins are yet to be put.
        [[maybe_unused]] State* kept = state_.release();
    }
    return pins;
}

FrameRun Pool::allocate_run(std::uint32_t count_max) noexcept {
    const BitRun run = state_->table.allocate_run(count_max);
    return {run.count > 0 ? run.first : kNoFrame, run.count};
}

void Pool::release(FrameIndex frame) noexcept {
    state_->table.release(frame);
}

std::byte* Pool::address(FrameIndex frame) const noexcept {
    FARSWAP_ASSERT(frame < frames());
    return state_->memory.data() + std::size_t{frame} * kPageSize;
}

FrameIndex Pool::frame_of(const void* address) const noexcept {
    const auto* byte = static_cast<const std::byte*>(address);
    const auto held = memory();
    if (byte < held.data() || byte >= held.data() + held.size()) return kNoFrame;
    return static_cast<FrameIndex>(static_cast<std::size_t>(byte - held.data()) / kPageSize);
}

std::uint32_t Pool::pins(FrameIndex frame) const noexcept {
    FARSWAP_ASSERT(frame < frames());
    return state_->table.word(frame).all_pins();
}

int Pool::prepare(std::uint32_t count) noexcept {
    return state_->prepare(count);
}
std::uint32_t Pool::ready_frames() const noexcept {
    return state_->table.added();
}
std::uint32_t Pool::frames() const noexcept {
    return state_->table.size();
}
std::uint32_t Pool::free_frames() const noexcept {
    return state_->table.free_count();
}
std::span<std::byte> Pool::memory() const noexcept {
    return state_->table.memory();
}
int Pool::memfd() const noexcept {
    return state_->memory.fd();
}
bool Pool::locked() const noexcept {
    return state_->locked;
}

std::uint32_t Pool::pinned_frames() const noexcept {
    std::uint32_t pinned = 0;
    for (FrameIndex frame = 0; frame < frames(); ++frame) pinned += pins(frame) > 0;
    return pinned;
}

}  // namespace farswap
