// What write-out, read-in and the reservation tell the area that they serve.
#pragma once

#include "base/result.h"

namespace farswap {

struct StorePart;

/// Called from the event loop only, never from inside a call of the area's user.
class SwapEvents {
  public:
    /// I/O has ended: frames or slots may have become free.
    virtual void progress() noexcept = 0;
    /// Somebody waits for a frame: what stands between written pages and their reuse is urgent.
    virtual bool frames_wanted() const noexcept = 0;
    /// A store has failed for good: nothing more is written to it.
    virtual void store_failed(const StorePart& part, const Error& error) noexcept = 0;

  protected:
    ~SwapEvents() = default;
};

}  // namespace farswap
