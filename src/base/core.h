// The core that a thread runs on, where the scheduler's choice is not good enough.
#pragma once

#include <sched.h>

namespace farswap {

/// Of the calling thread, always the same one. An affinity that somebody else gives it (taskset(1)) is kept
/// to; one given in the moment of a call may be lost.
class Core {
  public:
    /// Goes on on another core than the one it runs on now, and does not come back until the next leave() or
    /// be_anywhere(). False, and nothing has changed: no other one is allowed, or the kernel refuses. Some 10
    /// us (sched_setaffinity(2)).
    bool leave() noexcept;
    /// To the core that the last leave() left, and to no other. False, and nothing has changed: there was
    /// none, or somebody else has set another affinity since.
    bool go_back() noexcept;
    /// All cores that were allowed at first are again.
    void be_anywhere() noexcept;

  private:
    cpu_set_t allowed_{};  ///< before the first leave()
    cpu_set_t ours_{};     ///< set by us
    bool is_ours_ = false;
    int left_ = -1;
};

}  // namespace farswap
