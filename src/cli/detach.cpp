#include "cli/detach.h"

#include <poll.h>
#include <unistd.h>

#include "base/log.h"
#include "cli/control_socket.h"
#include "cli/setup_signals.h"
#include "cli/sizes.h"
#include "target/attachable.h"
#include "target/proc.h"

namespace farswap::cli {
namespace {

constexpr int kLookForSignalsMs = 100;

/// Draws "back 120 MiB of 1.2 GiB" in place, on a terminal only.
void show_progress(std::uint64_t back, std::uint64_t all) {
    if (isatty(STDERR_FILENO) != 1) return;
    const std::string text = fmt::format("\r\x1b[Kback {} of {}", format_size(back), format_size(all));
    [[maybe_unused]] const auto written = write(STDERR_FILENO, text.data(), text.size());
}

void end_progress() {
    if (isatty(STDERR_FILENO) == 1) [[maybe_unused]]
        const auto written = write(STDERR_FILENO, "\r\x1b[K", 4);
}

Ending ended_badly(const std::string& why) {
    end_progress();
    log::write_line(why);
    return {kExitFailure, 0};
}

/// Follows what the pager tells until the processes have left.
Ending follow(int socket, pid_t process, const SetupSignals& signals) {
    std::uint64_t back = 0, all = 0;
    for (;;) {
        pollfd ready{socket, POLLIN, 0};
        const int count = poll(&ready, 1, kLookForSignalsMs);
        if (const int signal = signals.taken()) {
            end_progress();
            log::write_line(fmt::format("interrupted: {} of {} came back, process {} stays managed",
                                        format_size(back), format_size(all), process));
            return {128 + signal, signal};
        }
        if (count <= 0) continue;
        const auto message = receive_json(socket);
        if (!message || !*message)
            return ended_badly(fmt::format("the pager of process {} has gone away before the end", process));
        if ((*message)->contains("error")) return ended_badly((*message)->value("error", ""));
        all = (*message)->value("bytes", std::uint64_t{0});
        const auto far = (*message)->value("far_bytes", std::uint64_t{0});
        back = all - std::min(all, far);
        if ((*message)->value("done", false)) break;
        show_progress(back, all);
    }
    end_progress();
    return {0, 0};
}

}  // namespace

Ending detach_command(const DetachOptions& options) {
    const SetupSignals signals;
    Ending ending{0, 0};
    for (const pid_t process : options.processes) {
        if (target::read_state(process) == '\0') {
            ending = ended_badly(fmt::format("there is no process {}", process));
            continue;
        }
        auto pager = find_pager_of(process);
        if (!pager) {
            ending = ended_badly(pager.error().message);
            continue;
        }
        if (!send_json(pager->socket.get(),
                       {{"do", "detach"}, {"process", process}, {"force", options.force}})) {
            ending = ended_badly(fmt::format("the pager of process {} has gone away", process));
            continue;
        }
        const Ending one = follow(pager->socket.get(), process, signals);
        if (one.status != 0) ending = one;
        if (one.signal != 0) break;
    }
    return ending;
}

}  // namespace farswap::cli
