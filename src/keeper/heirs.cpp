// Makes the process that goes on; see shared.h. Runs in the keeper, and on the heirs' first steps.
#include <asm/prctl.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <cerrno>
#include <csignal>
#include <ctime>

#include "keeper/raw_call.h"
#include "keeper/shared.h"

extern "C" {
// The linker's names for the first and last byte of a section (ld(1), "Input Section Example").
// NOLINTNEXTLINE(bugprone-reserved-identifier)
extern const std::byte __start_farswap_heirs[], __stop_farswap_heirs[];
extern const std::byte farswap_heir_returns[], farswap_heir_is_loaded[], farswap_heir_is_gone[];
}

// An heir's way from rt_sigreturn(2), which has loaded the extended registers, to the instruction of the
// dead. rdi: what was kept of them, rcx: eight-byte words of it, which are wiped here, as only now they are
// needed no more; rsp: a user_regs_struct, without fs_base and what follows. iretq takes the last five all at
// once, from user mode to user mode (Intel SDM vol. 2, IRET). Killed at its first instruction an heir has
// changed nothing; behind that, its extended registers are what is wiped.
asm(R"(
    .pushsection farswap_heirs, "ax", @progbits
    .globl farswap_heir_returns, farswap_heir_is_loaded, farswap_heir_is_gone
    .hidden farswap_heir_returns, farswap_heir_is_loaded, farswap_heir_is_gone
farswap_heir_returns:
    xorl %eax, %eax
farswap_heir_is_loaded:
    rep stosq
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    popq %r11
    popq %r10
    popq %r9
    popq %r8
    popq %rax
    popq %rcx
    popq %rdx
    popq %rsi
    popq %rdi
    leaq 8(%rsp), %rsp
    iretq
farswap_heir_is_gone:
    .popsection
)");

namespace farswap::keeper {

namespace {

#define FARSWAP_HEIRS_CODE [[gnu::section("farswap_heirs"), gnu::noinline]]

constexpr long kLeaderFlags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_PARENT_SETTID |
                              CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID;
constexpr long kThreadFlags = kLeaderFlags | CLONE_THREAD | CLONE_SYSVSEM;
constexpr std::size_t kHeirStackBytes = 8192;
constexpr std::size_t kRedZoneBytes = 128;          // System V ABI, AMD64, 3.2.2
constexpr unsigned long kContextFlags = 1 | 2 | 4;  // UC_FP_XSTATE, UC_SIGCONTEXT_SS, UC_STRICT_RESTORE_SS

struct alignas(64) Stack {
    std::array<std::byte, kHeirStackBytes> bytes{};
};
std::array<Stack, Shared::kThreadsMax> stacks;
std::atomic<std::uint32_t> may_begin{0};  ///< a futex: the leader is traced, so that its threads will be

/// Tells the kernel what the C library had told it of the dead thread, and becomes that one. A robust list is
/// not among it: no lock of ours is robust.
FARSWAP_HEIRS_CODE [[noreturn]] void become(const Shared& shared, KeptThread& kept) noexcept {
    raw_call(SYS_prctl, PR_SET_NAME, reinterpret_cast<long>(shared.name.data()));
    raw_call(SYS_setpriority, PRIO_PROCESS, 0, kept.nice);
    if (kept.rseq != 0)
        raw_call(SYS_rseq, static_cast<long>(kept.rseq), kept.rseq_bytes, 0, kept.rseq_signature);
    raw_call(SYS_arch_prctl, ARCH_SET_GS, static_cast<long>(kept.registers.gs_base));
    raw_call(SYS_arch_prctl, ARCH_SET_FS, static_cast<long>(kept.registers.fs_base));
    // On the dead thread's own stack, so that a signal that comes meanwhile finds one.
    const void* from = &kept.registers;
    auto to = static_cast<std::uintptr_t>(kept.context.uc_mcontext.gregs[REG_RSP]);
    std::size_t words = sizeof kept.registers / sizeof(std::uint64_t);
    asm volatile("rep movsq" : "+S"(from), "+D"(to), "+c"(words) : : "memory");
    __atomic_store_n(&kept.has_begun, true, __ATOMIC_SEQ_CST);
    // As at the end of a signal's handler, whose frame the context is the main part of (sigreturn(2)). It
    // comes to farswap_heir_returns.
    asm volatile(
        "movq %0, %%rsp\n\t"
        "movl %1, %%eax\n\t"
        "syscall\n\t"
        "ud2"
        :
        : "r"(&kept.context), "i"(SYS_rt_sigreturn)
        : "memory");
    __builtin_unreachable();
}

/// Starts `run` for the kept thread of that index, on a stack of its own; `run` never returns.
FARSWAP_HEIRS_CODE long clone_to(Shared& shared, long flags, std::size_t index,
                                 void (*run)(Shared&, std::size_t)) noexcept {
    KeptThread& kept = shared.threads[index];
    register long number asm("r10") = static_cast<long>(kept.registers.fs_base) + shared.number_offset;
    register long storage asm("r8") = 0;
    register long function asm("r12") = reinterpret_cast<long>(run);
    register long argument asm("r13") = static_cast<long>(index);
    register long state asm("r14") = reinterpret_cast<long>(&shared);
    long result;
    asm volatile(
        "syscall\n\t"
        "testq %%rax, %%rax\n\t"
        "jnz 1f\n\t"
        "xorl %%ebp, %%ebp\n\t"
        "movq %%r14, %%rdi\n\t"
        "movq %%r13, %%rsi\n\t"
        "callq *%%r12\n\t"
        "ud2\n"
        "1:"
        : "=a"(result)
        : "a"(SYS_clone), "D"(flags), "S"(stacks[index].bytes.data() + kHeirStackBytes), "d"(&kept.thread),
          "r"(number), "r"(storage), "r"(function), "r"(argument), "r"(state)
        : "rcx", "r11", "memory");
    return result;
}

FARSWAP_HEIRS_CODE void run_thread(Shared& shared, std::size_t index) noexcept {
    become(shared, shared.threads[index]);
}

FARSWAP_HEIRS_CODE void run_leader(Shared& shared, std::size_t) noexcept {
    while (__atomic_load_n(reinterpret_cast<std::uint32_t*>(&may_begin), __ATOMIC_ACQUIRE) == 0)
        raw_call(SYS_futex, reinterpret_cast<long>(&may_begin), FUTEX_WAIT_PRIVATE, 0);
    for (std::size_t other = 1; other < shared.count; other++) {
        if (!shared.threads[other].is_unborn) continue;
        while (clone_to(shared, kThreadFlags, other, run_thread) < 0) raw_call(SYS_sched_yield);
        shared.threads[other].is_unborn = false;
    }
    // A thread's number is put where the C library looks for it by the thread itself, in its first moment;
    // until then the main thread would find that it has ended, and might take its stack away
    // (pthread_join(3)).
    for (std::size_t other = 1; other < shared.count; other++) {
        while (!__atomic_load_n(&shared.threads[other].has_begun, __ATOMIC_ACQUIRE))
            raw_call(SYS_sched_yield);
    }
    shared.threads[0].is_unborn = false;
    become(shared, shared.threads[0]);
}

/// What rt_sigreturn(2) is to make of an heir: one that is on its way to the dead thread's instruction.
void prepare_return(KeptThread& kept) noexcept {
    ucontext_t& context = kept.context;
    gregset_t& to = context.uc_mcontext.gregs;
    const std::uint64_t stack = kept.registers.rsp - kRedZoneBytes - sizeof kept.registers;
    context.uc_flags = kContextFlags;
    context.uc_stack.ss_flags = SS_DISABLE;
    context.uc_mcontext.fpregs = reinterpret_cast<fpregset_t>(kept.extended.data());
    to[REG_RIP] = reinterpret_cast<greg_t>(farswap_heir_returns);
    to[REG_RSP] = static_cast<greg_t>(stack);
    to[REG_RDI] = reinterpret_cast<greg_t>(kept.extended.data());
    to[REG_RCX] = static_cast<greg_t>(kept.extended.size() / sizeof(std::uint64_t));
    to[REG_EFL] = 0x2;  // the bit that is always set; the direction is upwards
    to[REG_CSGSFS] = static_cast<greg_t>((kept.registers.cs & 0xffff) | (kept.registers.ss & 0xffff) << 48);
}

/// One that was killed before it was traced.
void bury(pid_t leader) noexcept {
    raw_call(SYS_kill, leader, SIGKILL);
    int status = 0;
    while (raw_call(SYS_wait4, leader, reinterpret_cast<long>(&status), __WALL) == -EINTR) {
    }
}

}  // namespace

HeirsCode heirs_code() noexcept {
    const auto at = [](const std::byte* code) { return reinterpret_cast<std::uintptr_t>(code); };
    return {at(__start_farswap_heirs), at(__stop_farswap_heirs), at(farswap_heir_is_loaded),
            at(farswap_heir_is_gone)};
}

pid_t make_heirs(Shared& shared) noexcept {
    constexpr int kTriesMax = 1000;
    constexpr timespec kPause{0, 1'000'000};
    for (KeptThread& kept : shared.threads)
        if (kept.is_unborn) prepare_return(kept);
    for (int tries = 0; tries < kTriesMax; tries++) {
        if (tries > 0) raw_call(SYS_nanosleep, reinterpret_cast<long>(&kPause));
        may_begin = 0;
        const auto leader = static_cast<pid_t>(clone_to(shared, kLeaderFlags, 0, run_leader));
        if (leader < 0) continue;
        if (raw_ptrace(PTRACE_SEIZE, leader, kTraceOptions) != 0) {
            bury(leader);
            continue;
        }
        shared.births.fetch_add(1);
        may_begin = 1;
        raw_call(SYS_futex, reinterpret_cast<long>(&may_begin), FUTEX_WAKE_PRIVATE, 1);
        return leader;
    }
    return 0;
}

}  // namespace farswap::keeper
