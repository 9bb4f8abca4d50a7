#include "target/seccomp_filter.h"

#include <fcntl.h>
#include <linux/audit.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "target/proc.h"
#include "target/uapi.h"

namespace farswap::target {
namespace {

constexpr __u32 kRefuse = SECCOMP_RET_KILL_PROCESS;
constexpr std::size_t kFiltersMax = 256;

struct Call {
    const char* name;
    int number;
    std::array<unsigned long, 6> arguments;
    bool may_fail = false;  ///< an errno will do
};

/// All that inject() has the program do, and agent.c does, with the arguments that filters look at.
constexpr Call kCalls[] = {
    {"mmap", SYS_mmap, {0, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, ~0ul, 0}},
    {"mprotect", SYS_mprotect, {4096, 4096, PROT_READ | PROT_EXEC, 0, 0, 0}},
    {"mprotect", SYS_mprotect, {4096, 4096, PROT_READ | PROT_WRITE, 0, 0, 0}},
    {"munmap", SYS_munmap, {4096, 4096, 0, 0, 0, 0}},
    {"madvise", SYS_madvise, {4096, 4096, MADV_DONTFORK, 0, 0, 0}},
    {"madvise", SYS_madvise, {4096, 4096, MADV_DONTNEED, 0, 0, 0}},
    {"socketpair", SYS_socketpair, {AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, 4096, 0, 0}},
    {"close", SYS_close, {3, 0, 0, 0, 0, 0}},
    {"clone", SYS_clone, {CLONE_VM | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM, 4096, 0, 0, 0, 0}},
    {"gettid", SYS_gettid, {0, 0, 0, 0, 0, 0}},
    {"close_range", SYS_close_range, {0, 4, 0, 0, 0, 0}},
    {"prctl", SYS_prctl, {PR_SET_NAME, 4096, 0, 0, 0, 0}},
    {"setresuid", SYS_setresuid, {65534, 65534, 65534, 0, 0, 0}, true},
    {"setresgid", SYS_setresgid, {65534, 65534, 65534, 0, 0, 0}, true},
    {"setgroups", SYS_setgroups, {0, 0, 0, 0, 0, 0}, true},
    {"chdir", SYS_chdir, {4096, 0, 0, 0, 0, 0}},
    {"recvmsg", SYS_recvmsg, {3, 4096, MSG_CMSG_CLOEXEC, 0, 0, 0}},
    {"sendmsg", SYS_sendmsg, {3, 4096, MSG_NOSIGNAL, 0, 0, 0}},
    {"read", SYS_read, {3, 4096, 1, 0, 0, 0}, true},
    {"fcntl", SYS_fcntl, {3, F_SETOWN_EX, 4096, 0, 0, 0}, true},
    {"fcntl", SYS_fcntl, {3, F_SETSIG, SIGKILL, 0, 0, 0}, true},
    {"fcntl", SYS_fcntl, {3, F_SETFL, O_ASYNC | O_NONBLOCK, 0, 0, 0}, true},
    {"ioctl", SYS_ioctl, {4, UFFDIO_MOVE, 4096, 0, 0, 0}},
    {"ioctl", SYS_ioctl, {4, UFFDIO_ZEROPAGE, 4096, 0, 0, 0}},
    {"munlock", SYS_munlock, {4096, 4096, 0, 0, 0, 0}},
    {"process_vm_readv", SYS_process_vm_readv, {1, 4096, 1, 4096, 1, 0}},
    {"pause", SYS_pause, {0, 0, 0, 0, 0, 0}},
    {"exit", SYS_exit, {0, 0, 0, 0, 0, 0}},
};

bool is_allowed(__u32 answer, bool may_fail) {
    switch (answer & SECCOMP_RET_ACTION_FULL) {
        case SECCOMP_RET_ALLOW:
        case SECCOMP_RET_LOG:
            return true;
        case SECCOMP_RET_ERRNO:
            return may_fail;
        default:
            return false;
    }
}

/// The machine of a filter while it runs (Documentation/networking/filter.rst; what seccomp allows of it:
/// seccomp_check_filter() in kernel/seccomp.c).
struct Machine {
    const seccomp_data& call;
    __u32 a = 0, x = 0;
    std::array<__u32, BPF_MEMWORDS> memory{};

    __u32 operand(const sock_filter& code) const { return BPF_SRC(code.code) == BPF_X ? x : code.k; }

    bool load(const sock_filter& code, __u32& into) {
        switch (BPF_MODE(code.code)) {
            case BPF_ABS:
                if (code.k % 4 != 0 || code.k >= sizeof call) return false;
                std::memcpy(&into, reinterpret_cast<const char*>(&call) + code.k, 4);
                return true;
            case BPF_LEN:
                into = sizeof call;
                return true;
            case BPF_IMM:
                into = code.k;
                return true;
            case BPF_MEM:
                if (code.k >= memory.size()) return false;
                into = memory[code.k];
                return true;
            default:
                return false;
        }
    }
    bool store(const sock_filter& code, __u32 value) {
        if (code.k >= memory.size()) return false;
        memory[code.k] = value;
        return true;
    }
    bool calculate(const sock_filter& code) {
        const __u32 b = operand(code);
        switch (BPF_OP(code.code)) {
            case BPF_ADD:
                a += b;
                return true;
            case BPF_SUB:
                a -= b;
                return true;
            case BPF_MUL:
                a *= b;
                return true;
            case BPF_DIV:
                a = b == 0 ? 0 : a / b;
                return b != 0;
            case BPF_AND:
                a &= b;
                return true;
            case BPF_OR:
                a |= b;
                return true;
            case BPF_XOR:
                a ^= b;
                return true;
            case BPF_LSH:
                a = b < 32 ? a << b : 0;
                return true;
            case BPF_RSH:
                a = b < 32 ? a >> b : 0;
                return true;
            case BPF_NEG:
                a = -a;
                return true;
            default:
                return false;
        }
    }
    /// Whether the jump is taken.
    bool compare(const sock_filter& code) const {
        const __u32 b = operand(code);
        switch (BPF_OP(code.code)) {
            case BPF_JEQ:
                return a == b;
            case BPF_JGT:
                return a > b;
            case BPF_JGE:
                return a >= b;
            default:
                return (a & b) != 0;  // BPF_JSET
        }
    }
};

Result<std::vector<std::vector<sock_filter>>> read_filters(pid_t task) {
    std::vector<std::vector<sock_filter>> filters;
    while (filters.size() < kFiltersMax) {
        const long count =
            ptrace(static_cast<__ptrace_request>(PTRACE_SECCOMP_GET_FILTER), task, filters.size(), nullptr);
        if (count < 0 && errno == ENOENT) return filters;
        if (count < 0) return fail_errno(errno, "cannot read the seccomp filter");
        std::vector<sock_filter> filter(static_cast<std::size_t>(count));
        if (ptrace(static_cast<__ptrace_request>(PTRACE_SECCOMP_GET_FILTER), task, filters.size(),
                   filter.data()) != count)
            return fail_errno(errno, "cannot read the seccomp filter");
        filters.push_back(std::move(filter));
    }
    return fail(E2BIG, "has too many seccomp filters");
}

/// Whether whoever has so many filters can have no other than those that it has in common with us: a
/// container's; and our gate, which nobody who was started behind it can be without.
bool is_known(std::uint64_t filters, bool behind_gate) {
    return filters > 0 && filters <= read_seccomp(getpid()).filters + (behind_gate ? 1 : 0);
}

}  // namespace

__u32 run_filter(std::span<const sock_filter> program, const seccomp_data& call) noexcept {
    Machine machine{call};
    for (std::size_t at = 0; at < program.size(); at++) {
        const sock_filter& code = program[at];
        bool sound = true;
        switch (BPF_CLASS(code.code)) {
            case BPF_LD:
                sound = machine.load(code, machine.a);
                break;
            case BPF_LDX:
                sound = machine.load(code, machine.x);
                break;
            case BPF_ST:
                sound = machine.store(code, machine.a);
                break;
            case BPF_STX:
                sound = machine.store(code, machine.x);
                break;
            case BPF_ALU:
                sound = machine.calculate(code);
                break;
            case BPF_JMP:
                at += BPF_OP(code.code) == BPF_JA ? code.k : machine.compare(code) ? code.jt : code.jf;
                break;
            case BPF_RET:
                return BPF_RVAL(code.code) == BPF_A ? machine.a : code.k;
            default:  // BPF_MISC
                if (BPF_MISCOP(code.code) == BPF_TAX)
                    machine.x = machine.a;
                else
                    machine.a = machine.x;
        }
        if (!sound) return kRefuse;
    }
    return kRefuse;
}

__u32 run_filters(const std::vector<std::vector<sock_filter>>& filters, const seccomp_data& call) noexcept {
    __u32 strictest = SECCOMP_RET_ALLOW;
    for (const auto& filter : filters) {
        const __u32 answer = run_filter(filter, call);
        // Actions are ordered as signed numbers: KILL_PROCESS is the least (ACTION_ONLY() in
        // kernel/seccomp.c).
        const auto action = static_cast<__s32>(answer & SECCOMP_RET_ACTION_FULL);
        if (action < static_cast<__s32>(strictest & SECCOMP_RET_ACTION_FULL)) strictest = answer;
    }
    return strictest;
}

Status check_seccomp(pid_t task, bool behind_gate) {
    const SeccompState state = read_seccomp(task);
    if (state.mode == SECCOMP_MODE_DISABLED) return {};
    if (state.mode == SECCOMP_MODE_STRICT)
        return fail(EACCES, "process {} runs in seccomp's strict mode, in which no agent can work", task);
    const auto filters = read_filters(task);
    if (!filters) {
        if (is_known(state.filters, behind_gate)) return {};
        return fail(EACCES,
                    "process {} has a seccomp filter that cannot be read ({}): it needs CAP_SYS_ADMIN", task,
                    filters.error().message);
    }
    for (const Call& call : kCalls) {
        seccomp_data data{};
        data.nr = call.number;
        data.arch = AUDIT_ARCH_X86_64;
        std::copy(call.arguments.begin(), call.arguments.end(), data.args);
        const __u32 answer = run_filters(*filters, data);
        if (is_allowed(answer, call.may_fail)) continue;
        return fail(EACCES, "process {} has a seccomp filter that does not allow {}, which the agent needs",
                    task, call.name);
    }
    return {};
}

}  // namespace farswap::target
