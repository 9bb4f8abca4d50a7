// See kept_thread.h. Layouts: struct rt_sigframe and _fpx_sw_bytes of the kernel's asm/sigframe.h and
// asm/sigcontext.h.
#include "keeper/kept_thread.h"

#include <cpuid.h>
#include <elf.h>
#include <sys/resource.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "keeper/raw_call.h"

namespace farswap::keeper {

namespace {

// Of include/linux/errno.h, which is not for programs: a tracer sees them in a stopped system call's result.
constexpr long kRestartSys = -512, kRestartNoIntr = -513, kRestartNoHand = -514, kRestartBlock = -516;
constexpr unsigned kSystemCallBytes = 2;  // of the instruction
constexpr std::size_t kLegacyBytes = 512, kHeaderBytes = 64;
constexpr std::uint64_t kTileData = std::uint64_t{1}
                                    << 18;  // granted on demand only (arch_prctl(2)); not to us

/// Whether the call may be made once more after it was interrupted. Many calls end with EINTR for a signal
/// that kills and for no other, as mmap(2) and clone(2) do, and nobody who calls them looks for it; to repeat
/// the others does no harm, but for these two, which have done their work (signal(7), close(2), connect(2)).
bool may_repeat(unsigned long long number) noexcept {
    return number != SYS_close && number != SYS_connect;
}

/// Reads at a place that is given: to make one again is never wrong, and it may have failed, or read less,
/// for the kill alone and with any error (process_vm_readv with EFAULT, when its pages could not be looked up
/// any more).
bool is_to_be_repeated(unsigned long long number) noexcept {
    return number == SYS_process_vm_readv || number == SYS_pread64;
}

/// What the kernel does on the way back to the program, which the dead one never took (x86's handle_signal).
void settle_system_call(user_regs_struct& registers) noexcept {
    if (static_cast<long>(registers.orig_rax) < 0) return;
    const auto result = static_cast<long>(registers.rax);
    if (is_to_be_repeated(registers.orig_rax) || result == kRestartSys || result == kRestartNoIntr ||
        result == kRestartNoHand || (result == -EINTR && may_repeat(registers.orig_rax))) {
        registers.rax = registers.orig_rax;
        registers.rip -= kSystemCallBytes;
    } else if (result == kRestartBlock) {  // what is left of its time died with the thread
        registers.rax = static_cast<unsigned long long>(-EINTR);
    }
}

/// Bytes of the standard form with these components (CPUID leaf 0Dh).
std::uint32_t extended_bytes(std::uint64_t components) noexcept {
    std::uint32_t bytes = kLegacyBytes + kHeaderBytes;
    for (unsigned i = 2; i < 63; i++) {
        unsigned size = 0, offset = 0, unused_c = 0, unused_d = 0;
        if ((components >> i & 1) == 0 ||
            __get_cpuid_count(0xd, i, &size, &offset, &unused_c, &unused_d) == 0)
            continue;
        bytes = std::max(bytes, offset + size);
    }
    return bytes;
}

/// Says in the unused bytes of what the tracer was given what the kernel puts there for signal handlers.
/// False: it does not fit.
bool mark_extended(std::span<std::byte> extended, std::size_t got) noexcept {
    std::byte* const memory = extended.data();
    _fpx_sw_bytes marks{};
    // The components that the machine has (the kernel's xstate_fx_sw_bytes).
    std::memcpy(&marks.xstate_bv, memory + kLegacyBytes - sizeof marks, sizeof marks.xstate_bv);
    marks.xstate_bv &= ~kTileData;
    marks.xstate_size = extended_bytes(marks.xstate_bv);
    marks.extended_size = marks.xstate_size + FP_XSTATE_MAGIC2_SIZE;
    marks.magic1 = FP_XSTATE_MAGIC1;
    if (marks.xstate_size > got || marks.extended_size > extended.size()) return false;
    const std::uint32_t end = FP_XSTATE_MAGIC2;
    std::memcpy(memory + kLegacyBytes - sizeof marks, &marks, sizeof marks);
    std::memcpy(memory + marks.xstate_size, &end, sizeof end);
    std::uint64_t present = 0;
    std::memcpy(&present, memory + kLegacyBytes, sizeof present);
    present &= marks.xstate_bv;
    std::memcpy(memory + kLegacyBytes, &present, sizeof present);
    return true;
}

}  // namespace

std::size_t KeptThread::extended_max() noexcept {
    constexpr std::size_t kAlignment = 64;  // of XRSTOR's operand
    const std::size_t bytes = extended_bytes(~kTileData) + FP_XSTATE_MAGIC2_SIZE;
    return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

bool KeptThread::take_extended() noexcept {
    iovec all{extended.data(), extended.size()};
    return raw_ptrace(PTRACE_GETREGSET, thread, NT_X86_XSTATE, &all) == 0 &&
           mark_extended(extended, all.iov_len);
}

KeptThread::Outcome KeptThread::take(const HeirsCode& heirs) noexcept {
    user_regs_struct now{};
    iovec general{&now, sizeof now};
    if (raw_ptrace(PTRACE_GETREGSET, thread, NT_PRSTATUS, &general) != 0) return Outcome::kLost;
    if (now.rip >= heirs.begin && now.rip < heirs.end) {
        const bool is_loaded = now.rip >= heirs.loaded && now.rip < heirs.loaded_end;
        return !is_loaded || take_extended() ? Outcome::kNotBegun : Outcome::kLost;
    }
    if (!take_extended()) return Outcome::kLost;
    if (raw_ptrace(PTRACE_GETSIGMASK, thread, sizeof(std::uint64_t), &context.uc_sigmask) != 0)
        return Outcome::kLost;
    // Linux 5.13. A thread that has only just begun has not told the kernel of its area yet.
    __ptrace_rseq_configuration area{};
    raw_ptrace(PTRACE_GET_RSEQ_CONFIGURATION, thread, sizeof area, &area);
    rseq = area.rseq_abi_pointer;
    rseq_bytes = area.rseq_abi_size;
    rseq_signature = area.signature;
    // The system call's answer is 20 - nice (getpriority(2), "C library/kernel differences").
    const long priority = raw_call(SYS_getpriority, PRIO_PROCESS, thread);
    nice = priority > 0 ? 20 - static_cast<int>(priority) : 0;
    system_call = std::max(static_cast<long>(now.orig_rax), -1L);
    argument = now.rsi;
    settle_system_call(now);
    registers = now;
    return Outcome::kTaken;
}

}  // namespace farswap::keeper
