// Puts the agent into a program: its mappings, its thread, its socket and its userfaultfd. Blocking; for the
// injector's thread. Knows nothing of page states.
#pragma once

#include <sys/types.h>

#include <cstdint>

#include "base/fd.h"
#include "base/result.h"
#include "target/remote.h"

namespace farswap::target {

/// Pages of the cookie mapping: one for each fork below the last process that has an agent.
inline constexpr std::uint32_t kCookiePages = 16;

/// Where the agent's mappings lie in the program, and the descriptors by which the pager reaches it.
struct Agent {
    pid_t process = 0;
    pid_t thread = 0;
    Fd pidfd;
    Fd socket;
    Fd life;                    ///< of a pipe; closed only when the agent has nothing to do, or by our end
    Fd uffd;                    ///< non-blocking, UFFDIO_API done
    std::uint64_t base = 0;     ///< all of the agent's memory: [base, base + length)
    std::uint64_t length = 0;   ///< bytes
    std::uint64_t staging = 0;  ///< address of the first staging page
    std::uint32_t staging_pages = 0;
    std::uint64_t cookie =
        0;  ///< kCookiePages pages that forked children inherit: by them a child is recognised
};

struct InjectOptions {
    std::uint32_t staging_pages = 1024;
    /// A userfaultfd made by EVENT_FORK for this process; -1: the agent makes one.
    int adopt_uffd = -1;
    /// Whether it was started behind an AdviceGate, by us or as a descendant.
    bool behind_gate = false;
};

/// Puts an agent into the stopped task. On failure the program is as it was. EACCES: no right to a
/// full userfaultfd, or a seccomp filter that forbids what the agent does; ENOSYS: the kernel lacks a feature
/// (named); ESTALE: the task has left the address space of `adopt_uffd` by an exec.
Result<Agent> inject(RemoteTask& task, const InjectOptions& options);

}  // namespace farswap::target
