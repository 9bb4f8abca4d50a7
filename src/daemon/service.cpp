#include "daemon/service.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>

#include <cerrno>

namespace farswap::daemon {

Result<Fd> take_signals() {
    sigset_t signals;
    sigemptyset(&signals);
    for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGCHLD}) sigaddset(&signals, signal);
    sigprocmask(SIG_BLOCK, &signals, nullptr);
    Fd taken(signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!taken) return fail_errno(errno, "signalfd");
    return taken;
}

Signals read_signals(int descriptor) {
    Signals got;
    signalfd_siginfo signal{};
    while (read(descriptor, &signal, sizeof signal) == sizeof signal) {
        got.end = got.end || signal.ssi_signo == SIGTERM || signal.ssi_signo == SIGINT;
        got.reload = got.reload || signal.ssi_signo == SIGHUP;
    }
    return got;
}

Fd accept_client(int listener, bool& is_short) {
    for (;;) {
        Fd client(accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
        if (client) return client;
        if (errno == ECONNABORTED || errno == EINTR) continue;
        is_short = errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS;
        return {};
    }
}

void enter_child(int client, int parent, std::chrono::seconds limit) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    alarm(static_cast<unsigned>(limit.count()));
    dup2(parent, kParent);
    dup2(client, kClient);
    close_range(kClient + 1, ~0u, 0);
}

}  // namespace farswap::daemon
