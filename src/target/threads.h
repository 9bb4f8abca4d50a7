// The threads of a process and the pages that must never leave it for their sake (kernel facts 2.4).
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <vector>

namespace farswap::target {

/// Finds each thread's clear_child_tid word and robust list. The kernel writes to them while the thread
/// exits, when no page fault can be served any more: with that page outside, pthread_join would wait for
/// ever.
class ThreadWatch {
  public:
    /// Looks for threads that are new since the last call and appends the addresses of their pages
    /// (page-aligned, may repeat) to `pages`. False while a thread is too young to have told where its robust
    /// list is: evict nothing yet.
    bool scan(pid_t process, pid_t agent_thread, std::vector<std::uint64_t>& pages);
    /// Threads seen by the last scan, the agent's excluded.
    std::size_t count() const noexcept { return known_.size(); }

  private:
    struct Young {
        pid_t thread;
        std::chrono::steady_clock::time_point since;
    };
    std::vector<pid_t> known_;  ///< sorted
    std::vector<Young> young_;
    std::vector<pid_t> now_;
};

}  // namespace farswap::target
