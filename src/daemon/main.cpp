// The helper farswapd: from the command line to the server.
#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <span>

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
    auto listener = listen_for_clients(*options);
    if (!listener) return failed(listener.error(), kExitFailure);
    if (const auto kept = keep_one_capability(); !kept) return failed(kept.error(), kExitFailure);
    say("serves {}", allowed(listener->access));
    if (const auto served = Server(std::move(*listener), {}).run(); !served)
        return failed(served.error(), kExitFailure);
    return 0;
}
