// Readiness of descriptors by IORING_OP_POLL_ADD. Knows nothing of file operations.
#pragma once

#include <vector>

#include "io/index_queue.h"
#include "io/loop.h"
#include "io/ring.h"

namespace farswap::io {

/// The watches of a loop, each a one-shot poll that is armed again after every callback: level-triggered, and
/// one submission entry an event.
class UringWatches {
  public:
    UringWatches(std::uint32_t watches_max, Ring& ring);

    void add(Watch& watch) noexcept;
    void modify(Watch& watch, std::uint32_t events) noexcept;
    /// The kernel lets go of the open file in the next flush().
    void remove(Watch& watch) noexcept;
    void flush() noexcept;
    /// Returns whether a callback was run.
    bool completed(std::uint32_t index, int result) noexcept;

  private:
    /// Stays taken until the kernel has answered its poll, so that a late answer finds no other watch.
    struct Entry {
        Watch* watch = nullptr;
        std::uint32_t armed_events = 0;  ///< of the poll in the kernel; 0: none
        bool removing = false;           ///< the removal of that poll has been submitted
    };

    bool settle(std::uint32_t index) noexcept;

    Ring& ring_;
    std::vector<Entry> table_;
    std::vector<std::uint32_t> free_;
    IndexQueue changed_;  ///< entries whose poll may differ from what is wanted
    std::uint32_t added_ = 0, watches_max_;
};

}  // namespace farswap::io
