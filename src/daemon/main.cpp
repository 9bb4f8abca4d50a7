// The helper farswapd: from the command line to the server and the broker.
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cstdio>
#include <span>

#include "base/size_text.h"
#include "daemon/broker.h"
#include "daemon/config.h"
#include "daemon/confine.h"
#include "daemon/listener.h"
#include "daemon/options.h"
#include "daemon/say.h"
#include "daemon/server.h"

namespace {

using namespace farswap;
using namespace farswap::daemon;

constexpr int kExitUsage = 2, kExitFailure = 1;

std::string allowed(const Access& access) {
    if (access.anybody) return "whom the socket's mode lets in";
    std::string text = "root";
    if (access.group) text += fmt::format(", group {}", *access.group);
    for (const uid_t user : access.users) text += fmt::format(", user {}", user);
    return text;
}

/// One that the caller left closed must not become the socket: standard error is written to.
void occupy_standard_descriptors() {
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd) {
        if (fcntl(fd, F_GETFD) < 0) [[maybe_unused]]
            const int opened = open("/dev/null", O_RDWR);
    }
}

/// What the file says, that was named or is where it usually is. Without the latter there is no budget.
/// Behind systemd's sockets a mistake is no reason to end: each who asks would start us again, until systemd
/// closes the sockets, for the helper, too, which needs no file.
Result<Config> configuration(const Options& options) {
    if (!options.config && access(kUsualConfig, F_OK) != 0 && errno == ENOENT) return Config{};
    auto config = read_config(options.config.value_or(kUsualConfig), surroundings());
    if (!config && is_socket_activated()) return Config{.mistake = config.error().message};
    return config;
}

int check_config(const std::string& file) {
    const auto config = read_config(file, surroundings());
    if (!config) {
        say("{}", config.error().message);
        return kExitFailure;
    }
    const auto text = config->ram > 0
                          ? fmt::format("{}: in order, a budget of {}\n", file, format_size(config->ram))
                          : fmt::format("{}: in order, no budget\n", file);
    return std::fputs(text.c_str(), stdout) < 0 ? kExitFailure : 0;
}

/// A child process that divides the budget between those who ask at `socket`; 0: nobody can. To be called
/// while `helper` is open here, which it drops.
Result<pid_t> start_broker(const Options& options, Config config, const Fd& socket, const Fd& helper) {
    if (!socket) {
        if (!config.mistake.empty()) say("{}", config.mistake);
        if (config.ram > 0)
            say("there is a budget, but no socket for it: systemctl enable --now farswapd-budget.socket");
        return 0;
    }
    sigset_t reload;  // the one to us, before it is ready for it, would be its end
    sigemptyset(&reload);
    sigaddset(&reload, SIGHUP);
    sigprocmask(SIG_BLOCK, &reload, nullptr);
    const pid_t child = fork();
    if (child < 0) return fail_errno(errno, "fork");
    if (child > 0) return child;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    close(helper.get());
    if (const auto kept = keep_no_capability(); !kept) {
        say("{}", kept.error().message);
        _exit(kExitFailure);
    }
    Broker broker(Fd(dup(socket.get())), options.config.value_or(kUsualConfig), std::move(config));
    const auto served = broker.run();
    if (!served) say("{}", served.error().message);
    _exit(served ? 0 : kExitFailure);
}

int failed(const Error& error, int status) {
    say("{}", error.message);
    return status;
}

}  // namespace

int main(int argc, char** argv) {
    occupy_standard_descriptors();
    const auto words = std::span<const char* const>(argv, static_cast<std::size_t>(argc)).subspan(argc > 0);
    const auto options = parse_options(words);
    if (!options) return failed(options.error(), kExitUsage);
    if (!options->print.empty()) return std::fputs(options->print.c_str(), stdout) < 0 ? kExitFailure : 0;
    if (!options->checked_config.empty()) return check_config(options->checked_config);
    auto config = configuration(*options);
    if (!config) return failed(config.error(), kExitFailure);
    auto listener = listen_for_clients(*options);
    if (!listener) return failed(listener.error(), kExitFailure);
    auto shares = listen_for_shares(*options, options->config || config->ram > 0);
    if (!shares) return failed(shares.error(), kExitFailure);
    const auto broker = start_broker(*options, std::move(*config), *shares, listener->socket);
    if (!broker) return failed(broker.error(), kExitFailure);
    shares->reset();
    if (const auto kept = keep_one_capability(); !kept) return failed(kept.error(), kExitFailure);
    say("serves {}", allowed(listener->access));
    const auto served = Server(std::move(*listener), {}, *broker).run();
    remove_own_sockets(*options);
    return served ? 0 : failed(served.error(), kExitFailure);
}
