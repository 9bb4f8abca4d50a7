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
    /// CAP_SYS_PTRACE): evict nothing yet. One that has slept for long in its first instructions is
    /// taken to be asleep: it is waited for again after page_came(), if a store may have kept its first page
    /// from it (`some_wait`: there are threads that wait for a page).
    bool scan(pid_t process, pid_t agent_thread, bool some_wait, std::vector<std::uint64_t>& pages);
    /// A page has come that a thread of the process may have waited for.
    void page_came() noexcept;
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
        enum State : std::uint8_t {
            kAwaited,
            kAsleep,        ///< looked at, and not waited for
            kPerhapsWaits,  ///< the same until page_came()
            kGrownUp        ///< has a list, or has run without setting one
        };
        pid_t thread;
        std::chrono::steady_clock::time_point since;
        State state = kAwaited;
    };
    static Young::State state_of(pid_t thread, std::chrono::steady_clock::duration age, bool some_wait);
    Young* find_young(pid_t thread, std::size_t among) noexcept;
    struct Head {
        pid_t thread;
        std::uint64_t address;
    };
    std::vector<pid_t> known_;        ///< sorted
    std::vector<Head> heads_;         ///< of the threads that have a robust list
    std::vector<Young> young_;        ///< sorted; have no list yet, and have hardly run
    bool some_perhaps_wait_ = false;  ///< any of them since page_came()
    std::vector<pid_t> now_;
    std::vector<pid_t> refused_;  ///< of the last scan: they are new to the next one
};

}  // namespace farswap::target
