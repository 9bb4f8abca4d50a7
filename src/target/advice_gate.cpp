#include "target/advice_gate.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <utility>

#include "target/proc.h"
#include "target/uapi.h"

namespace farswap::target {

AdviceGate::AdviceGate(io::Loop& loop, std::function<void(const Call&)> called)
    : loop_(loop), called_(std::move(called)) {}

AdviceGate::~AdviceGate() {
    if (watch_.added) loop_.remove(watch_);
}

int AdviceGate::install() noexcept {
    // Numbers are those of x86-64; whoever calls by another table is let through.
    std::array<sock_filter, 15> code = {{
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 0, 11),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_madvise, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_process_madvise, 6, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 8, 7),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[2])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, MADV_POPULATE_READ, 6, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, MADV_POPULATE_WRITE, 5, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, MADV_GUARD_INSTALL, 4, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, MADV_WIPEONFORK, 3, 2),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[3])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, MADV_WIPEONFORK, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
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
    seccomp_notif notification{};
    if ((events & EPOLLIN) != 0 && ioctl(listener_.get(), SECCOMP_IOCTL_NOTIF_RECV, &notification) == 0) {
        const auto thread = static_cast<pid_t>(notification.pid);
        const auto& arguments = notification.data.args;
        called_(
            {.id = notification.id,
             .process = read_process(thread),
             .thread = thread,
             .advice = notification.data.nr == SYS_madvise ? static_cast<int>(arguments[2]) : MADV_WIPEONFORK,
             .start = arguments[0],
             .bytes = arguments[1],
             .since = io::Clock::now()});
        return;
    }
    // Nobody with the filter is left.
    if ((events & EPOLLHUP) != 0) loop_.remove(watch_);
}

bool AdviceGate::Call::populates() const noexcept {
    return advice == MADV_POPULATE_READ || advice == MADV_POPULATE_WRITE;
}

bool AdviceGate::Call::may_wipe() const noexcept {
    return advice == MADV_WIPEONFORK;
}

bool AdviceGate::is_waiting(const Call& call) const noexcept {
    return ioctl(listener_.get(), SECCOMP_IOCTL_NOTIF_ID_VALID, &call.id) == 0;
}

void AdviceGate::let_go(const Call& call) const noexcept {
    seccomp_notif_resp response{};
    response.id = call.id;
    response.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
    (void)ioctl(listener_.get(), SECCOMP_IOCTL_NOTIF_SEND, &response);
}

void AdviceGate::answer(const Call& call, int error) const noexcept {
    seccomp_notif_resp response{};
    response.id = call.id;
    response.error = -error;
    (void)ioctl(listener_.get(), SECCOMP_IOCTL_NOTIF_SEND, &response);
}

}  // namespace farswap::target
