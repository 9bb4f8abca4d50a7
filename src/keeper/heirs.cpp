// Makes the process that goes on; see shared.h. Runs in the keeper, and on the heirs' first steps.
#include <asm/prctl.h>
#include <elf.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include <cerrno>
#include <csignal>
#include <ctime>
#include <utility>

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

constexpr long kSpareFlags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_PARENT_SETTID;
constexpr long kThreadFlags =
    kSpareFlags | CLONE_THREAD | CLONE_SYSVSEM | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID;
constexpr std::size_t kHeirStackBytes = 8192;
constexpr std::size_t kRedZoneBytes = 128;          // System V ABI, AMD64, 3.2.2
constexpr unsigned long kContextFlags = 1 | 2 | 4;  // UC_FP_XSTATE, UC_SIGCONTEXT_SS, UC_STRICT_RESTORE_SS

struct alignas(64) Stack {
    std::array<std::byte, kHeirStackBytes> bytes{};
};
std::array<Stack, Shared::kThreadsMax> threads_stacks;
std::array<Stack, Shared::kSparesMax> spares_stacks;

/// Where the C library looks for a thread's number (set_tid_address(2)).
[[gnu::always_inline]] inline long number_of(const Shared& shared, const KeptThread& kept) noexcept {
    return static_cast<long>(kept.registers.fs_base) + shared.number_offset;
}

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

/// Starts `run` on a stack of its own; it never returns. The kernel puts the new one's number to `number`,
/// and by the flags to `own_number`, too.
FARSWAP_HEIRS_CODE long clone_to(Shared& shared, long flags, Stack& stack, pid_t* number, long own_number,
                                 void (*run)(Shared&, std::size_t), std::size_t index) noexcept {
    register long own asm("r10") = own_number;
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
        : "a"(SYS_clone), "D"(flags), "S"(stack.bytes.data() + kHeirStackBytes), "d"(number), "r"(own),
          "r"(storage), "r"(function), "r"(argument), "r"(state)
        : "rcx", "r11", "memory");
    return result;
}

FARSWAP_HEIRS_CODE void run_thread(Shared& shared, std::size_t index) noexcept {
    become(shared, shared.threads[index]);
}

FARSWAP_HEIRS_CODE void run_spare(Shared& shared, std::size_t place) noexcept;

/// Fills all places but that of the leader, who may stand on its stack.
FARSWAP_HEIRS_CODE void make_spares(Shared& shared, long more_flags) noexcept {
    for (std::size_t place = 0; place < Shared::kSparesMax; place++) {
        Spare& spare = shared.spares[place];
        if (place == shared.leaders_place || __atomic_load_n(&spare.process, __ATOMIC_ACQUIRE) != 0) continue;
        spare.is_called = 0;
        spare.is_ending = false;
        (void)clone_to(shared, kSpareFlags | more_flags, spares_stacks[place], &spare.process, 0, run_spare,
                       place);
    }
}

/// There is a descriptor for it: the keeper has closed the predecessor's.
FARSWAP_HEIRS_CODE int open_own(const char* path, int flags) noexcept {
    constexpr int kTriesMax = 1000;
    for (int tries = 0; tries < kTriesMax; tries++) {
        const long fd = raw_call(SYS_open, reinterpret_cast<long>(path), flags);
        if (fd >= 0) return static_cast<int>(fd);
        raw_call(SYS_sched_yield);
    }
    return -1;
}

/// Becomes the main thread of those that were killed, and makes the others.
FARSWAP_HEIRS_CODE void lead(Shared& shared) noexcept {
    KeptThread& main = shared.threads[0];
    const long number = number_of(shared, main);
    raw_call(SYS_set_tid_address, number);
    *reinterpret_cast<pid_t*>(number) = static_cast<pid_t>(raw_call(SYS_gettid));
    for (std::size_t i = 0; i < RLIM_NLIMITS; i++)
        raw_call(SYS_prlimit64, 0, static_cast<long>(i), reinterpret_cast<long>(&shared.limits[i]));
    shared.tasks = open_own(kTasksPath, kTasksFlags);
    shared.stat = open_own(kStatPath, kStatFlags);
    make_spares(shared, CLONE_PARENT);
    for (std::size_t other = 1; other < shared.count; other++) {
        KeptThread& kept = shared.threads[other];
        if (!kept.is_unborn) continue;
        while (clone_to(shared, kThreadFlags, threads_stacks[other], &kept.thread, number_of(shared, kept),
                        run_thread, other) < 0)
            raw_call(SYS_sched_yield);
        kept.is_unborn = false;
    }
    // A thread's number is put where the C library looks for it by the thread itself, in its first moment;
    // until then the main thread would find that it has ended, and might take its stack away
    // (pthread_join(3)).
    for (std::size_t other = 1; other < shared.count; other++) {
        while (!__atomic_load_n(&shared.threads[other].has_begun, __ATOMIC_ACQUIRE))
            raw_call(SYS_sched_yield);
    }
    main.is_unborn = false;
    become(shared, main);
}

/// Waits to lead. It ends with the keeper, which alone could call it: it holds the pager's descriptors.
FARSWAP_HEIRS_CODE void run_spare(Shared& shared, std::size_t place) noexcept {
    Spare& spare = shared.spares[place];
    raw_call(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL);
    if (raw_call(SYS_getppid) != shared.keeper) raw_call(SYS_exit_group, 0);
    raw_call(SYS_prctl, PR_SET_NAME, reinterpret_cast<long>(shared.keepers_name.data()));
    while (__atomic_load_n(&spare.is_called, __ATOMIC_ACQUIRE) == 0)
        raw_call(SYS_futex, reinterpret_cast<long>(&spare.is_called), FUTEX_WAIT_PRIVATE, 0);
    raw_call(SYS_prctl, PR_SET_PDEATHSIG, 0);
    lead(shared);
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

void bury(Spare& spare) noexcept {
    raw_call(SYS_kill, spare.process, SIGKILL);
    for (int status = 0;;) {
        const long ended = raw_call(SYS_wait4, spare.process, reinterpret_cast<long>(&status), __WALL);
        if (ended > 0 && WIFSTOPPED(status))
            raw_ptrace(PTRACE_CONT, spare.process);
        else if (ended != -EINTR)
            break;
    }
    spare.process = 0;
}

Spare* find_spare(Shared& shared) noexcept {
    for (Spare& spare : shared.spares)
        if (__atomic_load_n(&spare.process, __ATOMIC_ACQUIRE) != 0 && !spare.is_ending) return &spare;
    return nullptr;
}

}  // namespace

HeirsCode heirs_code() noexcept {
    const auto at = [](const std::byte* code) { return reinterpret_cast<std::uintptr_t>(code); };
    return {at(__start_farswap_heirs), at(__stop_farswap_heirs), at(farswap_heir_is_loaded),
            at(farswap_heir_is_gone)};
}

long prepare_spares(Shared& shared) noexcept {
    make_spares(shared, 0);
    for (Spare& spare : shared.spares) {
        if (spare.process == 0) continue;
        const long error = raw_ptrace(PTRACE_SEIZE, spare.process, kTraceOptions);
        if (error == 0) continue;
        for (Spare& other : shared.spares)
            if (other.process != 0) bury(other);
        return -error;
    }
    return find_spare(shared) != nullptr ? 0 : EAGAIN;
}

bool begin_anew(Shared& shared, KeptThread& kept) noexcept {
    // What is left to the kernel meanwhile is to stop it; its own mask comes back with its registers. A
    // signal that is blocked would come back for ever.
    constexpr std::uint64_t kStops = 1ULL << (SIGTSTP - 1) | 1ULL << (SIGTTIN - 1) | 1ULL << (SIGTTOU - 1);
    constexpr std::uint64_t kAllButStops = ~kStops;
    const auto place = static_cast<std::size_t>(&kept - shared.threads.data());
    user_regs_struct to{};
    iovec general{&to, sizeof to};
    if (raw_ptrace(PTRACE_GETREGSET, kept.thread, NT_PRSTATUS, &general) != 0) return false;
    prepare_return(kept);
    const auto stack = reinterpret_cast<std::uintptr_t>(threads_stacks[place].bytes.data()) + kHeirStackBytes;
    to.rip = reinterpret_cast<std::uintptr_t>(&run_thread);
    to.rsp = stack - sizeof(std::uintptr_t);  // as after a call (System V ABI, AMD64, 3.2.2)
    to.rbp = 0;
    to.rdi = reinterpret_cast<std::uintptr_t>(&shared);
    to.rsi = place;
    to.eflags = 0x2;
    to.orig_rax = static_cast<unsigned long long>(-1);  // no system call is to be begun again
    // In this order: where the first fails it has a mask and registers of its own, which are still to be
    // read.
    return raw_ptrace(PTRACE_SETREGSET, kept.thread, NT_PRSTATUS, &general) == 0 &&
           raw_ptrace(PTRACE_SETSIGMASK, kept.thread, sizeof kAllButStops, &kAllButStops) == 0;
}

pid_t make_heirs(Shared& shared) noexcept {
    constexpr int kTriesMax = 1000;
    constexpr timespec kPause{0, 1'000'000};
    for (KeptThread& kept : shared.threads)
        if (kept.is_unborn) prepare_return(kept);
    Spare* spare = find_spare(shared);
    for (int tries = 0; spare == nullptr && tries < kTriesMax; tries++) {
        if (prepare_spares(shared) == EPERM) return 0;
        spare = find_spare(shared);
        if (spare == nullptr) raw_call(SYS_nanosleep, reinterpret_cast<long>(&kPause));
    }
    if (spare == nullptr) return 0;
    const pid_t leader = std::exchange(spare->process, 0);
    shared.leaders_place = static_cast<std::size_t>(spare - shared.spares.data());
    shared.threads[0].thread = leader;
    for (auto* file : {&shared.tasks, &shared.stat}) raw_call(SYS_close, file->exchange(-1));
    shared.births.fetch_add(1);
    __atomic_store_n(&spare->is_called, 1, __ATOMIC_RELEASE);
    raw_call(SYS_futex, reinterpret_cast<long>(&spare->is_called), FUTEX_WAKE_PRIVATE, 1);
    return leader;
}

}  // namespace farswap::keeper
