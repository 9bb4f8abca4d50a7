// vm.overcommit_memory: what the kernel refuses before a pager can help, and switching it for the time of a
// job.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/fd.h"
#include "base/result.h"
#include "cli/memory_limit.h"

namespace farswap::cli {

/// How the kernel accounts for mappings (Documentation/mm/overcommit-accounting.rst).
struct OvercommitState {
    int mode = 0;                       ///< 0 heuristic, 1 always, 2 never
    std::uint64_t largest_mapping = 0;  ///< mode 0: RAM + kernel swap; a larger private mapping gets ENOMEM
    std::uint64_t commit_limit = 0;  ///< mode 2: bytes that all private writable mappings may have together
    std::uint64_t committed = 0;     ///< of these, used now
};
Result<OvercommitState> read_overcommit(const FileReader& read);

/// What the kernel will refuse a large job, in one line, and what to type; empty in mode 1.
std::string overcommit_advice(const OvercommitState& state);

/// Where the switch works; tests give a folder of their own.
struct OvercommitPaths {
    std::string setting = "/proc/sys/vm/overcommit_memory";
    std::string directory = "/run/farswap";
};

/// Has vm.overcommit_memory at 1 while at least one lives, of all processes of this machine, and then as it
/// was.
///
/// Each holder has a shared lock (flock(2)) on DIRECTORY/overcommit, whose content is the value to go back
/// to; who can turn its lock into an exclusive one is the last, and removes it. The kernel drops the lock of
/// a process that is killed, so a count is never wrong; if the last one is killed, the setting stays at 1
/// until the next job with --overcommit ends, or until somebody follows the advice of `farswap check`.
class OvercommitSwitch {
  public:
    /// EPERM/EACCES/EROFS: not permitted, with what to type.
    static Result<std::unique_ptr<OvercommitSwitch>> set(const OvercommitPaths& paths = {});
    /// Goes back if this is the last holder and the setting is still 1 (an administrator's change stays).
    ~OvercommitSwitch();
    OvercommitSwitch(const OvercommitSwitch&) = delete;
    OvercommitSwitch& operator=(const OvercommitSwitch&) = delete;

  private:
    OvercommitSwitch(OvercommitPaths paths, Fd lock) : paths_(std::move(paths)), lock_(std::move(lock)) {}
    OvercommitPaths paths_;
    Fd lock_;
};

/// The value that holders, or one that was killed, have noted to go back to ("0"); empty when there is none
/// or it cannot be read.
std::string overcommit_to_restore(const OvercommitPaths& paths = {});

}  // namespace farswap::cli
