// Keeps the pager in memory; see pager_protection.h.
#include "cli/pager_protection.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include "base/fd.h"
#include "base/log.h"
#include "cli/probe.h"

namespace farswap::cli {

namespace {

constexpr int kSetIoFlusher = 57;  // PR_SET_IO_FLUSHER of linux/prctl.h (Linux 5.6)

bool spare_from_oom_killer() {
    const Fd file(::open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC));
    return file && ::write(file.get(), "-1000", 5) == 5;
}

}  // namespace

bool protect_pager() noexcept {
    // Under a limit on locked memory MCL_FUTURE would make later mappings fail. ONFAULT: the tables are
    // sparse.
    const bool locked = can_lock_all_memory() && ::mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) == 0;
    const bool spared = spare_from_oom_killer();
    const bool flusher = ::prctl(kSetIoFlusher, 1, 0, 0, 0) == 0;
    log::debug("pager: memory locked {}, spared by the OOM killer {}, I/O flusher {}", locked, spared,
               flusher);
    return locked;
}

}  // namespace farswap::cli
