// The swap area: slots and their counts, the swap cache, checksums, write-out and read-in. Knows stores and
// frames; nothing of processes or addresses.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "base/result.h"
#include "farswap/store.h"
#include "io/loop.h"
#include "page/pool.h"
#include "swap/compress.h"

namespace farswap {

/// A slot: the place of one page outside. Numbered through all stores; only the swap area knows where it
/// lies.
using SlotId = std::uint32_t;
inline constexpr SlotId kNoSlot = 0xffffffffu;

/// Slots that are next to each other on one store.
struct SlotRun {
    SlotId first = kNoSlot;
    std::uint32_t count = 0;
};

struct SwapAreaOptions {
    /// Of the stores, in their order, as in swapon(8): higher ones are used first, equal ones take turns. One
    /// that has none given has kNoPriority.
    std::vector<int> priorities{};
    static constexpr int kNoPriority = -1;
    /// How long pages wait for stores of a priority that are only short of room for the moment, before those
    /// of the next lower one get them.
    std::chrono::milliseconds overflow_patience{250};
    std::uint32_t write_run_max = 64;    ///< pages in one write, at most
    std::uint32_t read_run_max = 64;     ///< pages in one read, at most
    std::uint32_t read_frames_min = 64;  ///< frames that write-out never takes, so that reads go on
    std::uint32_t writes_max = 8;        ///< writes in flight on one store
    /// Of the frames: so many percent fill with pages before write-out begins, as what is wanted again at
    /// once need not have been written.
    std::uint32_t held_percent = 25;
    std::uint32_t reads_max = 128;  ///< reads in flight on all stores; more wait
    std::chrono::milliseconds io_timeout{60000};
    /// Of one operation, before it has failed for good. A store that is out of reach is asked without end.
    std::uint32_t attempts_max = 5;
    /// Before the second attempt; doubled before each further one.
    std::chrono::milliseconds retry_delay{100};
    std::chrono::milliseconds idle_flush_delay{50};  ///< quiet time after which written pages are flushed
    /// Pages are encrypted and authenticated before they leave (seal.h). Otherwise a checksum, which is kept
    /// here, tells those that the store has changed by accident.
    bool seal = true;
    /// So are those that stay in memory, compressed: what is not locked may be written to the kernel's swap.
    /// Only with `seal`.
    bool seal_memory = false;
    /// Of pages before they leave; their records share blocks of the store then.
    Compression compression = Compression::kOff;
    /// Pages do not leave memory at all: so many bytes of them, compressed, are kept. One store, NoStore, is
    /// there to number them. 0: pages leave.
    std::uint64_t keep_in_memory = 0;
    /// Compressed pages may stay in memory for a while before they leave, and after they have come back: so
    /// many bytes of them at most; how many are worth it is found out (tier_share.h). Only with compression.
    std::uint64_t cache_tier = 0;
    /// Room for sealed pages on their way out, for each store; 0: an eighth of the pool for all together, at
    /// most writes_max * write_run_max.
    std::uint32_t write_buffer_pages = 0;
    std::uint64_t reserve_chunk = std::uint64_t{64} << 20;  ///< bytes; grows with what is reserved already
    /// How often another process has gone on in the place of this one: from then on seals are of another
    /// epoch (Sealer). Null: none ever does.
    std::uint32_t (*births)() noexcept = nullptr;
};

struct FetchList;

/// Somebody who waits for a slot's page. Owned by the caller until `ready` or cancel_fetch().
struct SlotFetch {
    SlotId slot = kNoSlot;
    /// Pages that may be read along with it: [first, first + count) of slots, holding `slot`. Only the part
    /// that is allocated, outside and on the same store is read.
    SlotRun window;
    /// Called once, from the loop (never from inside fetch()). `data` is the page (kPageSize bytes), verified
    /// and valid during the whole call, whatever it does; null with a negative `error`: -EILSEQ when the
    /// checksum does not match, -ECANCELED when the slot's count fell to 0 or the area shuts down, -EIO ...
    /// when the store failed. Pages of the window that came along are in the cache already, for lookup().
    void (*ready)(SlotFetch& fetch, const std::byte* data, int error) = nullptr;
    void* owner = nullptr;

    // The swap area's own from fetch() until `ready` or cancel_fetch().
    SlotFetch* next = nullptr;
    SlotFetch* prev = nullptr;
    FetchList* list = nullptr;  ///< where it waits
    int outcome = 0;            ///< what `ready` will be told
};

/// A store that has been asked something and has answered nothing since.
struct StoreWait {
    const Store* store = nullptr;
    io::Clock::time_point since;  ///< of its last answer, or of the oldest question if that came later
};

/// One thread: the loop's. Allocates nothing after create() on fetch, lookup, write-out and release.
///
/// A slot's life: free -> cached dirty -> writing -> cached clean (written, not yet flushed) -> stored, or
/// cached clean while its frame is not needed -> reading -> cached. Its frame is reused only when the content
/// is safe: the flush that covers its write has completed and the store did not report a loss.
class SwapArea {
  public:
    static Result<std::unique_ptr<SwapArea>> create(Pool& pool, io::Loop& loop,
                                                    std::vector<std::unique_ptr<Store>> stores,
                                                    const SwapAreaOptions& options = {});
    /// Everything must be quiet: call shutdown() first.
    ~SwapArea();

    // Write-out.

    /// Up to `count_max` neighbouring frames for pages on their way out, with a slot kept for each; drops
    /// clean cached pages to get them. Empty when there is none now: frames_available is called when that
    /// changes, unless it makes `no_matter`.
    FrameRun take_frames(std::uint32_t count_max, bool no_matter = false) noexcept;
    /// Gives frames of take_frames() back unused.
    void return_frames(FrameRun run) noexcept;
    /// Puts the pages in `frames` (of take_frames, filled by the caller) into the cache, dirty, with one slot
    /// each and a count of 1, and computes their checksums. One that is all the same word takes no frame.
    /// Takes the first `result.count` frames over; the rest stay the caller's. ENOSPC: the store whose slots
    /// were kept for them has failed since. EFBIG: the first one stays in memory and gets no smaller there;
    /// `whole` takes it all the same.
    Result<SlotRun> add(FrameRun frames, bool whole = false) noexcept;
    /// Starts writes for what was added so far although runs are short. Otherwise write-out waits to fill
    /// runs, but never while take_frames() or a read has found no frame.
    void kick_writes() noexcept;

    /// Whether the page in `frame` (of take_frames(), filled by the caller) is what the slot holds, so that
    /// it may leave as that once more, without a write. Changes nothing.
    bool holds(SlotId slot, FrameIndex frame) const noexcept;
    /// Whether the page of a slot may come back and leave its slot's content where it is, in the hope that it
    /// is the same when it leaves again: it has been written, and the stores have room.
    bool worth_keeping(SlotId slot) const noexcept;
    /// The page of a slot has gone back to one of its users, who keeps the slot, as it is worth_keeping().
    void note_back(SlotId slot) noexcept;
    /// The page in `frame` (of take_frames()) has left as what the slot holds(). Takes the frame back.
    void add_unchanged(SlotId slot, FrameIndex frame) noexcept;
    /// So many slots should be given up by whoever keeps them for pages that are back (worth_keeping()).
    std::uint32_t slots_short() const noexcept;

    // Counts: one for each process page that refers to the slot.
    void get(SlotId slot) noexcept;  ///< one more (fork)
    void put(SlotId slot) noexcept;  ///< one less; the last frees slot and frame at once or when their I/O
                                     ///< has ended
    std::uint32_t count(SlotId slot) const noexcept;
    /// Whether the page has not begun its way to the store.
    bool is_dirty(SlotId slot) const noexcept;
    /// Whether lookup() would find the page. Is no use of it.
    bool is_in_memory(SlotId slot) const noexcept;

    // Read-in.

    /// The page in the cache, or null when it must be fetched. Valid until the next call other than get() and
    /// count(); lookups of up to 64 slots that follow each other leave each other's pages valid. Counts as a
    /// use: the frame of a page that its only user has copied goes first when frames are needed.
    const std::byte* lookup(SlotId slot) const noexcept;
    /// Reads the slot's page (or joins a read in flight, or takes it from the cache). Never completes from
    /// inside the call. The slot's count is above 0. After shutdown() has begun it is never answered.
    void fetch(SlotFetch& fetch) noexcept;
    /// Starts reading into the cache the part of `run` that is outside and on the first slot's store,
    /// although nobody waits for it yet. Does less, or nothing, when frames are short.
    void prefetch(SlotRun run) noexcept;
    /// `ready` will not be called. Does nothing when it was called already.
    void cancel_fetch(SlotFetch& fetch) noexcept;

    /// The store that holds the slot and the byte offset there, for messages.
    std::string describe(SlotId slot) const;

    // State of the whole.

    /// No slot is free, nor will be before one is given up, and the stores cannot grow (a reservation failed
    /// with ENOSPC or capacity is reached).
    bool slots_exhausted() const noexcept;
    /// Stores that were full are asked for room once more. Until they have answered slots are not exhausted.
    void try_to_grow() noexcept;
    std::uint64_t slots_used() const noexcept;
    /// Pages do not leave memory.
    bool keeps_in_memory() const noexcept;
    /// Memory of the cache tier is needed for other things: some of it is given up. At most so many bytes are
    /// taken from now on.
    void release_memory() noexcept;
    void limit_cache_tier(std::uint64_t most) noexcept;
    /// What a fault costs that is served from memory, with the page that leaves for it: what a page in the
    /// tier costs when it is wanted, and one of the program's does not.
    void note_fault_cost(std::chrono::nanoseconds cost) noexcept;
    /// Bytes of records in memory.
    std::uint64_t bytes_packed() const noexcept;
    /// Pages that the stores can hold if none gets smaller.
    std::uint64_t slots_capacity() const noexcept;

    /// Hooks, called from the loop. Set before use.
    /// take_frames() failed before and may work now, or slots_exhausted() has become true.
    std::function<void()> frames_available;
    /// A write, flush or reserve failed for good, and no other store can take over; once. (Where others can,
    /// they do, and a warning says so. Pages that the store has are read from it as before.)
    std::function<void(const Error&)> store_failed;

    struct Counters {
        std::uint64_t pages_out = 0;     ///< pages added
        std::uint64_t pages_filled = 0;  ///< of these, pages that are one word, of which nothing is written
        std::uint64_t pages_packed = 0;  ///< pages that are in memory, compressed
        std::uint64_t bytes_packed = 0;  ///< what they take
        std::uint64_t pages_packed_at_peak = 0, bytes_packed_peak = 0;
        std::uint64_t tier_found = 0;         ///< of cache_hits, pages that were found compressed in memory
        std::uint64_t tier_written_back = 0;  ///< pages that went on from there to a store
        std::uint64_t tier_limit = 0;         ///< bytes that it may take now
        std::uint64_t pages_written = 0;      ///< pages whose write completed
        std::uint64_t pages_in = 0;           ///< pages read from the stores, prefetched ones included
        std::uint64_t cache_hits = 0;         ///< lookups that found the page
        std::uint64_t frames_dirty = 0, frames_clean = 0, frames_free = 0;
    };
    Counters counters() const noexcept;
    /// Of the seals that are made now; 0: none are.
    std::uint32_t seal_epoch() const noexcept;
    const std::vector<std::unique_ptr<Store>>& stores() const noexcept;
    /// What is on its way between memory and stores.
    struct UnderWay {
        std::uint32_t writes = 0;             ///< requests, those that wait for another attempt included
        std::uint32_t pages_uncommitted = 0;  ///< whose write was answered, and no flush since
        std::uint32_t flushes = 0;
        std::uint32_t reads = 0;
    };
    /// Adds numbers up, and follows only what stays as it is: it may be asked whatever the loop's thread
    /// does, when that stands still.
    UnderWay under_way() const noexcept;
    /// The stores that owe an answer now; mostly for a moment.
    std::vector<StoreWait> waits() const;

    /// Waits (running the loop) until no I/O is in flight, at most `limit`, then closes the stores. Write-out
    /// that has not begun is dropped: the job is over. Fetches that still wait are answered with -ECANCELED.
    /// The stores are left open, with a warning, when I/O outlasts the limit.
    void shutdown(std::chrono::milliseconds limit) noexcept;

  private:
    struct State;
    explicit SwapArea(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

}  // namespace farswap
