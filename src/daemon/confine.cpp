#include "daemon/confine.h"

#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <span>
#include <vector>

#include "target/uapi.h"

namespace farswap::daemon {
namespace {

// Messages and the log; memory for their text; the end. mmap(2), ioctl(2) are looked at closer.
constexpr unsigned kAllowed[] = {
    SYS_recvmsg,
    SYS_sendmsg,
    SYS_readlink,
    SYS_readlinkat,
    SYS_write,
    SYS_close,
    SYS_brk,
    SYS_munmap,
    SYS_getrandom,
    SYS_restart_syscall,
    SYS_exit_group,
    SYS_rt_sigreturn,
#ifdef __SANITIZE_ADDRESS__
    // Looked at before each call that does not return; and a way to find out whether memory can be read,
    // taken before the first call of a virtual function of a class.
    SYS_sigaltstack,
    SYS_pipe,
    SYS_pipe2,
#endif
};
constexpr unsigned kIoctls[] = {static_cast<unsigned>(UFFDIO_API), static_cast<unsigned>(UFFDIO_WAKE)};
// Of a relay: the same without files, and waiting.
constexpr unsigned kAllowedForRelays[] = {
    SYS_recvmsg,     SYS_sendmsg,      SYS_poll,  SYS_ppoll, SYS_clock_nanosleep, SYS_alarm,
    SYS_setitimer,   SYS_write,        SYS_close, SYS_brk,   SYS_munmap,          SYS_restart_syscall,
    SYS_exit_group,  SYS_rt_sigreturn,
#ifdef __SANITIZE_ADDRESS__
    SYS_sigaltstack, SYS_pipe,         SYS_pipe2,
#endif
};

sock_filter load(std::size_t offset) {
    return BPF_STMT(BPF_LD | BPF_W | BPF_ABS, static_cast<unsigned>(offset));
}
sock_filter answer(unsigned action) {
    return BPF_STMT(BPF_RET | BPF_K, action);
}
/// What follows next is for calls that equal `value`, what is behind that for all others.
sock_filter unless_equal_skip(unsigned value, std::size_t count) {
    return BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, static_cast<unsigned char>(count));
}

/// The lower half of an argument on a little-endian machine.
constexpr std::size_t argument(std::size_t number) {
    return offsetof(seccomp_data, args) + number * sizeof(__u64);
}

std::vector<sock_filter> filter(std::span<const unsigned> allowed, std::span<const unsigned> ioctls) {
    constexpr unsigned kRefuse = SECCOMP_RET_ERRNO | EPERM;
    std::vector<sock_filter> program{load(offsetof(seccomp_data, arch)),
                                     BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
                                     answer(kRefuse), load(offsetof(seccomp_data, nr))};
    for (const unsigned call : allowed) {
        program.push_back(unless_equal_skip(call, 1));
        program.push_back(answer(SECCOMP_RET_ALLOW));
    }
    program.push_back(unless_equal_skip(SYS_mmap, 4));
    program.push_back(load(argument(2)));
    program.push_back(BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, PROT_EXEC, 1, 0));
    program.push_back(answer(SECCOMP_RET_ALLOW));
    program.push_back(answer(kRefuse));
    program.push_back(unless_equal_skip(SYS_ioctl, 1 + 2 * ioctls.size()));
    program.push_back(load(argument(1)));
    for (const unsigned request : ioctls) {
        program.push_back(unless_equal_skip(request, 1));
        program.push_back(answer(SECCOMP_RET_ALLOW));
    }
    program.push_back(answer(kRefuse));
    return program;
}

/// Leaves the process the capabilities of `mask`, the lower 32 of them, and no way to others.
Status keep_capabilities(unsigned mask) {
    // Before the right to do so is gone. EINVAL: there is no such capability.
    for (unsigned long capability = 0; capability <= CAP_LAST_CAP; ++capability) {
        if (capability >= 32 || (mask & CAP_TO_MASK(capability)) == 0)
            prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
    }
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> data{};
    data[0].effective = data[0].permitted = mask;
    if (syscall(SYS_capset, &header, data.data()) != 0) return fail_errno(errno, "capset");
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return fail_errno(errno, "PR_SET_NO_NEW_PRIVS");
    return {};
}

Status install(std::vector<sock_filter> program) {
    sock_fprog all{static_cast<unsigned short>(program.size()), program.data()};
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &all) != 0)
        return fail_errno(errno, "cannot forbid system calls (CONFIG_SECCOMP_FILTER)");
    return {};
}

}  // namespace

Status keep_one_capability() {
    static_assert(CAP_SYS_PTRACE < 32);
    if (const auto kept = keep_capabilities(CAP_TO_MASK(CAP_SYS_PTRACE)); !kept)
        return kept.error().code == EPERM
                   ? fail(EPERM, "farswapd needs the capability CAP_SYS_PTRACE: start it as root")
                   : kept;
    return {};
}

Status keep_no_capability() {
    return keep_capabilities(0);
}

Status forbid_other_calls() {
    return install(filter(kAllowed, kIoctls));
}

Status forbid_all_but_relaying() {
    return install(filter(kAllowedForRelays, {}));
}

}  // namespace farswap::daemon
