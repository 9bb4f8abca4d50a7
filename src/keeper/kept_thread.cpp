// See kept_thread.h.
#include "keeper/kept_thread.h"

#include <elf.h>
#include <sys/resource.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>

#include "keeper/raw_call.h"

namespace farswap::keeper {

namespace {

// Of include/linux/errno.h, which is not for programs: a tracer sees them in a stopped system call's result.
constexpr long kRestartSys = -512, kRestartNoIntr = -513, kRestartNoHand = -514, kRestartBlock = -516;
constexpr unsigned kSystemCallBytes = 2;  // of the instruction

bool get_set(long request, pid_t thread, long kind, iovec& memory) noexcept {
    return raw_ptrace(request, thread, kind, &memory) == 0;
}

/// Whether the call may be made once more after it was interrupted. Many calls end with EINTR for a signal that
/// kills and for no other, as mmap(2) and clone(2) do, and nobody who calls them looks for it; to repeat the others
/// does no harm, but for these two, which have done their work (signal(7), close(2), connect(2)).
bool may_repeat(unsigned long long number) noexcept {
    return number != SYS_close && number != SYS_connect;
}

/// What the kernel does on the way back to the program, which the dead one never took (x86's handle_signal).
void settle_system_call(user_regs_struct& registers) noexcept {
    if (static_cast<long>(registers.orig_rax) < 0) return;
    const auto result = static_cast<long>(registers.rax);
    if (result == kRestartSys || result == kRestartNoIntr || result == kRestartNoHand ||
        (result == -EINTR && may_repeat(registers.orig_rax))) {
        registers.rax = registers.orig_rax;
        registers.rip -= kSystemCallBytes;
    } else if (result == kRestartBlock) {  // what is left of its time died with the thread
        registers.rax = static_cast<unsigned long long>(-EINTR);
    }
    // No system call: the heir's kernel is not to look at the result again.
    registers.orig_rax = static_cast<unsigned long long>(-1);
}

}  // namespace

bool KeptThread::take() noexcept {
    iovec general{&registers, sizeof registers};
    iovec all{extended.data(), extended.size()};
    if (!get_set(PTRACE_GETREGSET, thread, NT_PRSTATUS, general) || general.iov_len != sizeof registers) return false;
    if (!get_set(PTRACE_GETREGSET, thread, NT_X86_XSTATE, all) || all.iov_len == extended.size()) return false;
    extended_bytes = all.iov_len;
    if (raw_ptrace(PTRACE_GETSIGMASK, thread, sizeof signal_mask, &signal_mask) != 0) return false;
    // Linux 5.13. A thread that has only just begun has not told the kernel of its area yet.
    __ptrace_rseq_configuration area{};
    if (raw_ptrace(PTRACE_GET_RSEQ_CONFIGURATION, thread, sizeof area, &area) == sizeof area) {
        rseq = area.rseq_abi_pointer;
        rseq_bytes = area.rseq_abi_size;
        rseq_signature = area.signature;
    }
    // The system call's answer is 20 - nice (getpriority(2), "C library/kernel differences").
    const long priority = raw_call(SYS_getpriority, PRIO_PROCESS, thread);
    nice = priority > 0 ? 20 - static_cast<int>(priority) : 0;
    system_call = std::max(static_cast<long>(registers.orig_rax), -1L);
    argument = registers.rsi;
    settle_system_call(registers);
    is_taken = true;
    return true;
}

bool KeptThread::give_to(pid_t heir) const noexcept {
    user_regs_struct general_copy = registers;
    iovec general{&general_copy, sizeof general_copy};
    iovec all{const_cast<std::byte*>(extended.data()), extended_bytes};
    raw_call(SYS_setpriority, PRIO_PROCESS, heir, nice);
    return get_set(PTRACE_SETREGSET, heir, NT_X86_XSTATE, all) &&
           get_set(PTRACE_SETREGSET, heir, NT_PRSTATUS, general) &&
           raw_ptrace(PTRACE_SETSIGMASK, heir, sizeof signal_mask, &signal_mask) == 0;
}

}  // namespace farswap::keeper
