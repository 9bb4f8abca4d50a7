#include "target/advice_gate.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <utility>

#include "base/no_allocation.h"
#include "target/proc.h"
#include "target/uapi.h"

namespace farswap::target {

namespace {

void describe(const seccomp_data& data, AdviceGate::Call& call) {
    switch (data.nr) {
        case SYS_unshare:
        case SYS_setns:
            call.is_for_one_thread = true;
            return;
        case SYS_seccomp:
            call.is_for_all_threads = true;
            return;
        case SYS_madvise:
            call.advice = static_cast<int>(data.args[2]);
            call.start = data.args[0];
            call.bytes = data.args[1];
            return;
        default:
            call.may_wipe_unseen = true;
    }
}

}  // namespace

AdviceGate::AdviceGate(io::Loop& loop, std::function<void(const Call&)> called)
    : loop_(loop), called_(std::move(called)) {}

AdviceGate::~AdviceGate() {
    if (watch_.added) loop_.remove(watch_);
}

int AdviceGate::install() noexcept {
    // Numbers are those of x86-64; whoever calls by another table is let through.
    constexpr std::uint32_t kOneThread = CLONE_NEWUSER | CLONE_THREAD | CLONE_SIGHAND | CLONE_VM;
    constexpr std::uint8_t kAllow = 26, kNotify = 27;
    // A jump's offsets count from the statement behind it.
    const auto to = [](int target, int from) { return static_cast<std::uint8_t>(target - from - 1); };
    std::array<sock_filter, 28> code = {{
        /*  0 */ BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, arch)),
        /*  1 */ BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 0, to(kAllow, 1)),
        /*  2 */ BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        /*  3 */ BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_madvise, to(9, 3), 0),
        /*  4 */ BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_process_madvise, to(15, 4), 0),
        /*  5 */ BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_unshare, to(17, 5), 0),
        /*  6 */ BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_setns, to(19, 6), 0),
        /*  7 */ BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_seccomp, to(22, 7), 0),
        /*  8 */ BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, to(kNotify, 8), to(kAllow, 8)),
        /*  9 */ BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[2])),
        /* 10 */ BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, MADV_POPULATE_READ, to(kNotify, 10), 0),
        /* 11 */ BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, MADV_POPULATE_WRITE, to(kNotify, 11), 0),
        /* 12 */ BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, MADV_GUARD_INSTALL, to(kNotify, 12), 0),
        /* 13 */ BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, MADV_KEEPONFORK, to(kNotify, 13), 0),
        /* 14 */ BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, MADV_WIPEONFORK, to(kNotify, 14), to(kAllow, 14)),
        /* 15 */ BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[3])),
        /* 16 */ BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, MADV_WIPEONFORK, to(kNotify, 16), to(kAllow, 16)),
        /* 17 */ BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[0])),
        /* 18 */ BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, kOneThread, to(kNotify, 18), to(kAllow, 18)),
        // setns: what kind of namespace may be left open.
        /* 19 */ BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[1])),
        /* 20 */ BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, to(kNotify, 20), 0),
        /* 21 */ BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, CLONE_NEWUSER, to(kNotify, 21), to(kAllow, 21)),
        // seccomp: operation and flags are int.
        /* 22 */ BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[0])),
        /* 23 */ BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SECCOMP_SET_MODE_FILTER, 0, to(kAllow, 23)),
        /* 24 */ BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[1])),
        /* 25 */
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, SECCOMP_FILTER_FLAG_TSYNC, to(kNotify, 25), to(kAllow, 25)),
        /* 26 */ BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        /* 27 */ BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
    }};
    const sock_fprog program{static_cast<unsigned short>(code.size()), code.data()};
    const long listener =
        syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
    return listener < 0 ? -errno : static_cast<int>(listener);
}

void AdviceGate::listen(Fd listener) {
    listener_ = std::move(listener);
    watch_ = {.fd = listener_.get(),
              .ready = [](io::Watch& watch,
                          std::uint32_t events) { static_cast<AdviceGate*>(watch.owner)->call_came(events); },
              .owner = this};
    loop_.add(watch_);
}

void AdviceGate::call_came(std::uint32_t events) {
    const MayAllocate held("a call of the program's waits at the gate, and no page");
    seccomp_notif notification{};
    if ((events & EPOLLIN) != 0 && ioctl(listener_.get(), SECCOMP_IOCTL_NOTIF_RECV, &notification) == 0) {
        const auto thread = static_cast<pid_t>(notification.pid);
        Call call{.id = notification.id,
                  .process = read_process(thread),
                  .thread = thread,
                  .since = io::Clock::now()};
        describe(notification.data, call);
        called_(call);
        return;
    }
    // Nobody with the filter is left.
    if ((events & EPOLLHUP) != 0) loop_.remove(watch_);
}

bool AdviceGate::Call::populates() const noexcept {
    return advice == MADV_POPULATE_READ || advice == MADV_POPULATE_WRITE;
}

bool AdviceGate::Call::is_about_forks() const noexcept {
    return wipes() || advice == MADV_KEEPONFORK;
}

bool AdviceGate::Call::wipes() const noexcept {
    return advice == MADV_WIPEONFORK;
}

bool AdviceGate::is_waiting(const Call& call) const noexcept {
    return ioctl(listener_.get(), SECCOMP_IOCTL_NOTIF_ID_VALID, &call.id) == 0;
}

bool AdviceGate::let_go(const Call& call) const noexcept {
    seccomp_notif_resp response{};
    response.id = call.id;
    response.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
    return ioctl(listener_.get(), SECCOMP_IOCTL_NOTIF_SEND, &response) == 0;
}

void AdviceGate::answer(const Call& call, int error) const noexcept {
    seccomp_notif_resp response{};
    response.id = call.id;
    response.error = -error;
    (void)ioctl(listener_.get(), SECCOMP_IOCTL_NOTIF_SEND, &response);
}

}  // namespace farswap::target
