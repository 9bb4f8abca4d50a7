// The processes of a job: everything below the pager, found by polling /proc (docs/decisions/0002). Counts
// their memory; knows nothing of paging.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/fd.h"
#include "target/proc.h"

namespace farswap::target {

/// One process of the job.
struct Member {
    pid_t process = 0;
    pid_t parent = 0;
    pid_t task = 0;  ///< whose files in /proc show its memory: its main thread, or another when that ended
    Fd status;       ///< of /proc/TASK/status
    std::chrono::steady_clock::time_point seen{};  ///< first seen
    MemoryUse use;
    /// Shares its parent's address space (vfork, CLONE_VM): neither counted nor managed. Looked at anew while
    /// true.
    bool borrows_memory = false;
    bool alive = true;
    void* owner = nullptr;  ///< the pager's own
};

/// One thread. The pager must be a child subreaper (prctl(2)), so that orphans stay below it.
class ProcessTree {
  public:
    /// What runs below us now is not of the job: a shell may have left us children before it executed
    /// farswap (`2> >(tee log)`), and to page the one that reads our messages would end in a deadlock.
    void leave_out_present();
    /// Looks for processes that came and went. Members that are gone have alive == false until the next scan.
    void scan();
    /// Reads every member's memory. Sum in bytes of RssAnon, RssShmem and huge pages.
    std::uint64_t measure();
    /// Pss_Anon + Pss_Shmem over all members, bytes; walks all page tables.
    std::uint64_t measure_pss();

    /// Minor faults of all members since each began (field 10 of /proc/PID/stat).
    std::uint64_t minor_faults() const;

    const std::vector<std::unique_ptr<Member>>& members() const noexcept { return members_; }
    Member* find(pid_t process) const noexcept;
    std::uint64_t processes_seen() const noexcept { return seen_; }
    /// Changes whenever a member comes or goes.
    std::uint64_t generation() const noexcept { return generation_; }

  private:
    void visit(pid_t process, pid_t parent);
    static bool open_status(Member& member);
    void follow_strangers();
    bool is_stranger(pid_t process) const noexcept;

    struct Stranger {
        pid_t process = 0;
        Fd pidfd;  ///< readable once it has ended: its number may then be somebody else's
    };
    std::vector<Stranger> strangers_;
    std::vector<std::unique_ptr<Member>> members_;
    std::vector<pid_t> queue_;
    std::uint64_t seen_ = 0;
    std::uint64_t generation_ = 0;
};

}  // namespace farswap::target
