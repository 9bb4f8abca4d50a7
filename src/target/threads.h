// The threads of a process and the pages that must never leave it for their sake (kernel facts 2.4).
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <vector>

namespace farswap::target {

/// Finds each thread's clear_child_tid word and robust list. The kernel writes to them while the thread
/// exits, when no page fault can be served any more: with that page outside, pthread_join would wait for
/// ever.
class ThreadWatch {
  public:
    /// Looks for threads that are new since the last call and appends the addresses of their pages
    /// (page-aligned, may repeat) to `pages`. False while a thread is too young to have told where its robust
    /// list is, or the kernel does not tell us (the process must not be dumped, and we have no
    /// CAP_SYS_PTRACE): evict nothing yet.
    bool scan(pid_t process, pid_t agent_thread, std::vector<std::uint64_t>& pages);
    /// Walks the robust lists: the kernel marks the mutexes on them when their thread dies. Appends the pages
    /// of all mutexes that are held now. `may_read` says whether a page of a list's head or, second, of a
    /// mutex can be read without waiting for ourselves: a mutex may lie in memory that the program has
    /// dropped. A list that leads to a page that cannot is followed up to there, that page included. False if
    /// the process's memory may not be read.
    bool held_mutexes(pid_t process, const std::function<bool(std::uint64_t page, bool of_mutex)>& may_read,
                      std::vector<std::uint64_t>& pages) const;
    /// Threads seen by the last scan, the agent's excluded.
    std::size_t count() const noexcept { return known_.size(); }

  private:
    struct Young {
        pid_t thread;
        std::chrono::steady_clock::time_point since;
    };
    struct Head {
        pid_t thread;
        std::uint64_t address;
    };
    std::vector<pid_t> known_;  ///< sorted
    std::vector<Head> heads_;   ///< of the threads that have a robust list
    std::vector<Young> young_;
    std::vector<pid_t> now_;
    std::vector<pid_t> refused_;  ///< of the last scan: they are new to the next one
};

}  // namespace farswap::target
