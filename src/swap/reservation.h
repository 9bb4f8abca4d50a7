// Keeps a store's reserved space ahead of need, in chunks. Knows how many slots are left, not who uses them.
#pragma once

#include <cstdint>

#include "farswap/store.h"
#include "io/loop.h"
#include "swap/events.h"
#include "swap/slots.h"

namespace farswap {

/// Slots are handed out in reserved space only. The next chunk is asked for while less than half of the space
/// (of a large one, a quarter), or less than half a chunk, is free; chunks grow with the space, so that a
/// large job asks seldom and a small one takes little. A full store is tried with smaller chunks before it
/// counts as full.
class Reservation {
  public:
    Reservation(Slots& slots, StorePart& part, io::Loop& loop, const SwapAreaOptions& options,
                SwapEvents& events);
    Reservation(const Reservation&) = delete;
    Reservation& operator=(const Reservation&) = delete;

    /// Asks for the next chunk if it is time. Call it after slots were handed out.
    void consider() noexcept;
    /// A store that was full may have room again, as others free theirs: it is asked for a little. Not one
    /// that has failed.
    void try_again() noexcept;
    void stop() noexcept;

    /// Whether the space may still become larger.
    bool can_grow() const noexcept {
        return !full_ && !stopped_ && part_.blocks.limit() < part_.blocks.capacity();
    }
    bool quiet() const noexcept { return !submitted_; }

  private:
    static void reserve_ended(ReserveRequest& request, int result);
    static void retry_timer(io::Timer& timer);
    void submit() noexcept;
    void settle(int result) noexcept;
    void extend() noexcept;

    Slots& slots_;
    StorePart& part_;
    io::Loop& loop_;
    const SwapAreaOptions& options_;
    SwapEvents& events_;
    ReserveRequest request_;
    io::Timer retry_;
    std::uint64_t chunk_;  ///< bytes
    std::uint32_t failures_ = 0;
    bool busy_ = false;  ///< submitted, or waiting for the next attempt
    bool submitted_ = false;
    bool full_ = false;
    bool is_short_ = false;  ///< ... because the store had no room
    bool stopped_ = false;
};

}  // namespace farswap
