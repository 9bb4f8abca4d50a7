// What write-out, read-in and the reservation tell, and ask, the area that they serve.
#pragma once

#include <chrono>

#include "base/result.h"
#include "swap/swap_area.h"

namespace farswap {

struct StorePart;

/// Called from the event loop only, never from inside a call of the area's user.
class SwapEvents {
  public:
    /// I/O has ended: frames or slots may have become free.
    virtual void progress() noexcept = 0;
    /// Somebody waits for a frame: what stands between written pages and their reuse is urgent.
    virtual bool frames_wanted() const noexcept = 0;
    /// Where a page that is due to be written may stay for a while instead.
    enum class Offer { kTaken, kRefused, kNotNow };
    /// Offers the page of a slot that is kDirty and has no place on its store yet. kTaken: it has left the
    /// dirty pages. kRefused: it gets no smaller, and need not be offered again.
    virtual Offer offer(SlotId /*slot*/) noexcept { return Offer::kNotNow; }
    /// A read that somebody waited for has taken so long.
    virtual void read_took(std::chrono::nanoseconds /*time*/) noexcept {}
    /// A store has failed for good: nothing more is written to it.
    virtual void store_failed(const StorePart& part, const Error& error) noexcept = 0;

  protected:
    ~SwapEvents() = default;
};

}  // namespace farswap
