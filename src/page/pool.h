// The pool: a fixed number of page frames in locked memory, the only memory that pages pass through on their
// way. Knows frames, references and pins; nothing of slots, stores or processes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/result.h"
#include "farswap/kernel_pages.h"

namespace farswap {

/// A frame's number in its pool, 0 .. frames - 1.
using FrameIndex = std::uint32_t;
inline constexpr FrameIndex kNoFrame = 0xffffffffu;

/// Frames that lie next to each other in the pool. count 0 is "none".
struct FrameRun {
    FrameIndex first = kNoFrame;
    std::uint32_t count = 0;
};

struct PoolOptions {
    std::size_t frames = 0;  ///< at least 1, at most 2^31
    /// So many can be allocated at once, the others when prepare() has made them present; 0: all.
    std::size_t frames_ready = 0;
    bool lock = true;  ///< mlock2(MLOCK_ONFAULT), and populate what can be allocated
    /// Where a limit on locked memory (RLIMIT_MEMLOCK) does not let all of them be locked, as many serve as
    /// it does, down to so many; EPERM or ENOMEM when not even these can be. 0: all of them serve then,
    /// unlocked and not populated, as locked() says.
    std::size_t locked_least = 0;
    std::size_t lock_spare = 0;  ///< bytes that others will lock, for which the limit must leave room then
    bool huge_pages = true;      ///< MADV_HUGEPAGE; serves without where there are none
    /// false: a child of fork(2), which others may be able to look at, has nothing of it (MADV_DONTFORK).
    bool children_have_it = true;
};

/// Owner of the frames. allocate/release and the pins are lock-free and may be used from any thread; the rest
/// belongs to one thread. The memory is a memfd, so that another process can take it over.
class Pool {
  public:
    /// EINVAL, EMFILE, EFBIG, ENOMEM; EPERM or ENOMEM: see PoolOptions::locked_least.
    static Result<std::unique_ptr<Pool>> create(const PoolOptions& options);
    /// Reports every pin that is still held (a bug of its holder) and then keeps the memory mapped.
    ~Pool();
    Pool(const Pool&) = delete;
    Pool& operator=(const Pool&) = delete;
    /// Ends the pool as the destructor does, and returns how many pins were still held; 0 the second time.
    /// Only the destructor may follow.
    std::size_t close() noexcept;

    /// Makes the next so many frames present, if the pool is locked, which takes some microseconds for each,
    /// and has them allocated from now on. 0, or ENOMEM: there is no memory for them. From the owner's
    /// thread.
    int prepare(std::uint32_t count) noexcept;
    /// The first so many can be allocated.
    std::uint32_t ready_frames() const noexcept;

    /// Takes up to `count_max` neighbouring frames; each starts with the owner's reference and clean. The run
    /// is shorter than asked (down to 1) when the free frames are scattered or other threads take them at the
    /// same time, and empty when none is free. Takes at most a few microseconds, however large the pool.
    FrameRun allocate_run(std::uint32_t count_max) noexcept;
    /// Drops the owner's reference of one frame. It is reused once its last pin has been put. A second
    /// release is a broken invariant.
    void release(FrameIndex frame) noexcept;

    std::byte* address(FrameIndex frame) const noexcept;
    /// The frame whose memory holds `address`, or kNoFrame.
    FrameIndex frame_of(const void* address) const noexcept;
    std::uint32_t pins(FrameIndex frame) const noexcept;

    std::uint32_t frames() const noexcept;
    /// Free now; other threads may change it at once.
    std::uint32_t free_frames() const noexcept;
    std::span<std::byte> memory() const noexcept;
    int memfd() const noexcept;
    bool locked() const noexcept;
    /// Frames with at least one pin (walks the table).
    std::uint32_t pinned_frames() const noexcept;

  private:
    struct State;
    explicit Pool(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

/// Whether `page` is a pin that is held right now; `for_writing` tells of which kind it is. Used by
/// validate().
bool page_is_pinned(const page* page, bool* for_writing) noexcept;

}  // namespace farswap
