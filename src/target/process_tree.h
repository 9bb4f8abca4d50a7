// The processes of a job: everything below the pager, found by polling /proc (docs/decisions/0002). Counts
// their memory; knows nothing of paging.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <set>
#include <vector>

#include "base/fd.h"
#include "target/memory_gauge.h"
#include "target/proc.h"

namespace farswap::target {

/// One process of the job.
struct Member {
    pid_t process = 0;
    pid_t parent = 0;
    pid_t task = 0;     ///< whose files in /proc show its memory: its main thread, or another when that ended
    MemoryGauge gauge;  ///< of the task's
    std::chrono::steady_clock::time_point seen{};  ///< first seen
    MemoryUse use;
    /// Shares its parent's address space (vfork, CLONE_VM): neither counted nor managed. Looked at anew while
    /// true.
    bool borrows_memory = false;
    bool alive = true;
    std::uint64_t pss = 0;  ///< bytes, by the last measure_pss()
    bool leaves = false;    ///< the pager's own, as the next: not of the job any more, and not counted
    bool left = false;      ///< it has nothing of us any more
    void* owner = nullptr;
    std::uint64_t shares = 0;  ///< bytes of what forks share
    std::uint64_t had = 0;     ///< bytes, at the last look at what is shared
    bool in_pss = false;       ///< was known when Pss was read
};

/// One thread. Without roots it is of what runs below the pager, which must be a child subreaper (prctl(2)),
/// so that orphans stay below it. With roots, what they have started is looked for below each member, and an
/// orphan whose parent ended before it was seen has to be adopted.
class ProcessTree {
  public:
    /// A process that is not below the pager.
    void add_root(pid_t process) {
        new_roots_.push_back(process);
        has_roots_ = true;
    }
    /// From now on what runs below us is of no account, as with roots: members are looked for below members.
    void stay_with_members() { has_roots_ = true; }
    /// What runs below us now is not of the job: a shell may have left us children before it executed
    /// farswap (`2> >(tee log)`), and to page the one that reads our messages would end in a deadlock.
    void leave_out_present();
    bool has_roots() const noexcept { return has_roots_; }
    /// A member that was found otherwise, at once.
    void adopt(pid_t process) { visit(process, read_parent(process)); }
    /// Looks for processes that came and went. Members that are gone have alive == false until the next scan.
    void scan();
    /// Reads every member's memory; `everything` as for MemoryGauge::read(). Whether one has ended or may
    /// end unseen: a scan would tell.
    bool measure(bool everything = true);
    /// Sum in bytes of all members' RssAnon, RssShmem and huge pages, as last measured.
    std::uint64_t rss() const noexcept;
    /// Reads every member's Pss_Anon + Pss_Shmem; walks all page tables.
    void measure_pss();

    /// Whether some member has lost more than half of what measure() found, and more than `bytes`, by now: it
    /// has ended, executed another program or unmapped much.
    bool any_shrank(std::uint64_t bytes) const;

    /// Minor faults of all members since each began (field 10 of /proc/PID/stat).
    std::uint64_t minor_faults() const;

    const std::vector<std::unique_ptr<Member>>& members() const noexcept { return members_; }
    Member* find(pid_t process) const noexcept;
    std::uint64_t processes_seen() const noexcept { return seen_; }
    /// Changes whenever a member comes or goes.
    std::uint64_t generation() const noexcept { return generation_; }

  private:
    void visit(pid_t process, pid_t parent);
    void enqueue(pid_t process, pid_t parent);
    void begin_below_us();
    void begin_at_roots();
    static bool open_gauge(Member& member);
    void follow_strangers();
    bool is_stranger(pid_t process) const noexcept;

    struct Stranger {
        pid_t process = 0;
        Fd pidfd;  ///< readable once it has ended: its number may then be somebody else's
    };
    std::vector<Stranger> strangers_;
    std::vector<std::unique_ptr<Member>> members_;
    std::vector<pid_t> queue_;
    std::set<pid_t> queued_;
    std::vector<pid_t> new_roots_;
    bool has_roots_ = false;
    std::uint64_t seen_ = 0;
    std::uint64_t generation_ = 0;
};

}  // namespace farswap::target
