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
}

namespace farswap::keeper {

namespace {

#define FARSWAP_HEIRS_CODE [[gnu::section("farswap_heirs"), gnu::noinline]]

constexpr long kLeaderFlags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_PARENT_SETTID |
                              CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID;
constexpr long kThreadFlags = kLeaderFlags | CLONE_THREAD | CLONE_SYSVSEM;
constexpr std::size_t kHeirStackBytes = 8192;

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
    raw_call(SYS_arch_prctl, ARCH_SET_GS, static_cast<long>(kept.gs_base));
    raw_call(SYS_arch_prctl, ARCH_SET_FS, static_cast<long>(kept.fs_base));
    __atomic_store_n(&kept.has_begun, true, __ATOMIC_SEQ_CST);
    // As at the end of a signal's handler, whose frame the context is the main part of (sigreturn(2)).
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
    register long number asm("r10") = static_cast<long>(kept.fs_base) + shared.number_offset;
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

/// One that was killed before it was traced.
void bury(pid_t leader) noexcept {
    raw_call(SYS_kill, leader, SIGKILL);
    int status = 0;
    while (raw_call(SYS_wait4, leader, reinterpret_cast<long>(&status), __WALL) == -EINTR) {
    }
}

}  // namespace

std::uintptr_t heirs_code() noexcept {
    return reinterpret_cast<std::uintptr_t>(__start_farswap_heirs);
}

std::uintptr_t heirs_code_end() noexcept {
    return reinterpret_cast<std::uintptr_t>(__stop_farswap_heirs);
}

pid_t make_heirs(Shared& shared) noexcept {
    constexpr int kTriesMax = 1000;
    constexpr timespec kPause{0, 1'000'000};
    for (KeptThread& kept : shared.threads)
        kept.context.uc_mcontext.fpregs = reinterpret_cast<fpregset_t>(kept.extended.data());
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
