// Makes the process that goes on; see shared.h. Runs in the keeper, and on the heirs' first steps.
#include <linux/futex.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <csignal>

#include "keeper/raw_call.h"
#include "keeper/shared.h"

namespace farswap::keeper {

namespace {

constexpr long kLeaderFlags =
    CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID;
constexpr long kThreadFlags = kLeaderFlags | CLONE_THREAD | CLONE_SYSVSEM;
constexpr std::size_t kStackBytes = 8192;

/// What an heir needs for its first steps.
struct Start {
    long number = 0;  ///< the address of the thread's
    const KeptThread* dead = nullptr;
    std::atomic<bool> is_ready{false};
    alignas(64) std::array<std::byte, kStackBytes> stack{};
};
std::array<Start, Shared::kThreadsMax> starts;
std::size_t wanted = 0;
const char* name = nullptr;
std::atomic<std::uint32_t> may_begin{0};  ///< a futex: the leader is traced, so that its threads will be

/// On the heir: tells the kernel what the C library told it of the dead thread, and waits to become that. A
/// robust list is not among it: no lock of ours is robust. The stop is one by SIGSTOP, which nothing blocks.
[[noreturn]] void await_registers(Start& start) noexcept {
    if (start.dead->rseq != 0)
        raw_call(SYS_rseq, static_cast<long>(start.dead->rseq), start.dead->rseq_bytes, 0, start.dead->rseq_signature);
    raw_call(SYS_prctl, PR_SET_NAME, reinterpret_cast<long>(name));
    start.is_ready = true;
    for (;;) raw_call(SYS_tkill, raw_call(SYS_gettid), SIGSTOP);
}

/// Starts `run(index)` on the stack of that heir, which never returns.
long clone_to(long flags, std::size_t index, void (*run)(std::size_t)) noexcept {
    Start& start = starts[index];
    register long number asm("r10") = start.number;
    register long storage asm("r8") = 0;
    register long function asm("r12") = reinterpret_cast<long>(run);
    register long argument asm("r13") = static_cast<long>(index);
    long result;
    asm volatile(
        "syscall\n\t"
        "testq %%rax, %%rax\n\t"
        "jnz 1f\n\t"
        "xorl %%ebp, %%ebp\n\t"
        "movq %%r13, %%rdi\n\t"
        "callq *%%r12\n\t"
        "ud2\n"
        "1:"
        : "=a"(result)
        : "a"(SYS_clone), "D"(flags), "S"(start.stack.data() + kStackBytes), "d"(0), "r"(number), "r"(storage),
          "r"(function), "r"(argument)
        : "rcx", "r11", "memory");
    return result;
}

void run_thread(std::size_t index) noexcept {
    await_registers(starts[index]);
}

void run_leader(std::size_t index) noexcept {
    while (may_begin == 0) raw_call(SYS_futex, reinterpret_cast<long>(&may_begin), FUTEX_WAIT_PRIVATE, 0);
    for (std::size_t other = 1; other < wanted; other++) {
        if (clone_to(kThreadFlags, other, run_thread) < 0) raw_call(SYS_exit_group, 1);
    }
    await_registers(starts[index]);
}

void prepare(const Shared& shared) noexcept {
    wanted = shared.count;
    name = shared.name.data();
    may_begin = 0;
    for (std::size_t i = 0; i < wanted; i++) {
        const auto storage = static_cast<long>(shared.threads[i].registers.fs_base);
        starts[i].number = storage + shared.number_offset;
        starts[i].dead = &shared.threads[i];
        starts[i].is_ready = false;
    }
}

/// Waits until all of them have stopped where they await their registers.
bool gather() noexcept {
    std::array<pid_t, Shared::kThreadsMax> stopped{};
    for (std::size_t count = 0; count < wanted;) {
        int status = 0;
        const auto thread = static_cast<pid_t>(raw_call(SYS_wait4, -1, reinterpret_cast<long>(&status), __WALL));
        if (thread < 0 || !WIFSTOPPED(status)) return false;
        if (status >> 16 == 0 && WSTOPSIG(status) == SIGSTOP) {
            stopped[count++] = thread;
        } else if (raw_ptrace(PTRACE_CONT, thread) != 0) {
            return false;
        }
    }
    // Somebody else's SIGSTOP may have come before ours.
    for (std::size_t i = 0; i < wanted; i++)
        if (!starts[i].is_ready) return false;
    return true;
}

pid_t number_of(std::size_t index) noexcept {
    return __atomic_load_n(reinterpret_cast<pid_t*>(starts[index].number), __ATOMIC_ACQUIRE);
}

}  // namespace

const long kTraceOptions = PTRACE_O_TRACEEXIT | PTRACE_O_TRACECLONE;

bool make_heirs(Shared& shared) noexcept {
    prepare(shared);
    const auto leader = static_cast<pid_t>(clone_to(kLeaderFlags, 0, run_leader));
    if (leader < 0) return false;
    bool is_done = raw_ptrace(PTRACE_SEIZE, leader, kTraceOptions) == 0;
    may_begin = 1;
    raw_call(SYS_futex, reinterpret_cast<long>(&may_begin), FUTEX_WAKE_PRIVATE, 1);
    is_done = is_done && gather();
    for (std::size_t i = 0; is_done && i < wanted; i++) is_done = shared.threads[i].give_to(number_of(i));
    if (!is_done) {
        raw_call(SYS_kill, leader, SIGKILL);
        return false;
    }
    for (std::size_t i = 0; i < wanted; i++) {
        shared.threads[i].thread = number_of(i);
        shared.threads[i].is_taken = false;
    }
    shared.births.fetch_add(1);
    for (std::size_t i = 0; i < wanted; i++) raw_ptrace(PTRACE_CONT, shared.threads[i].thread);
    return true;
}

}  // namespace farswap::keeper
