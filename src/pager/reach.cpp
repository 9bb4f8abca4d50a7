// Processes that we may not read any more. Who has set PR_SET_DUMPABLE to 0, or has changed its identity, is
// closed to all but those with CAP_SYS_PTRACE (ptrace(2), "Ptrace access mode checking"). Its faults can be
// served all the same, by its userfaultfd. But where its threads keep what the kernel writes to when they end
// is not told any more, so that nothing may leave; and with nothing leaving, to wait for room under the cap
// would be to wait for ever.
#include "base/log.h"
#include "pager/pager.h"

namespace farswap {

/// Whether something may leave it. Tells the operator when that has come to an end.
bool Pager::is_within_reach(Process& process) {
    const bool readable = process->is_readable();
    if (readable != process.out_of_reach) return readable;
    process.out_of_reach = !readable;
    if (readable) return true;
    arm_retry();  // who has waited for room need not any more
    // By the kernel they are what their parent was when it forked; they are not found in /proc either.
    for (const auto& child : processes_) {
        if (child->target->process() == 0 && child->forked_by == process->process())
            child->out_of_reach = true;
    }
    if (std::exchange(process.is_said_to_be_out, true)) return false;
    const MayAllocate message("once a process");
    log::warning(
        "process {} may not be read any more, as it must not be dumped or has changed its identity: "
        "nothing of it can leave RAM any more, and if that is too much for --ram the job is stopped; run "
        "farswap as root, or give it CAP_SYS_PTRACE",
        process->process());
    return false;
}

}  // namespace farswap
