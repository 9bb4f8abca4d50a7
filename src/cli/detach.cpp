#include "cli/detach.h"

#include <poll.h>
#include <unistd.h>

#include "base/log.h"
#include "cli/control_socket.h"
#include "cli/progress.h"
#include "cli/setup_signals.h"
#include "cli/sizes.h"
#include "target/attachable.h"
#include "target/proc.h"

namespace farswap::cli {
namespace {

constexpr int kLookForSignalsMs = 100;

Ending ended_badly(const std::string& why) {
    log::write_line(why);
    return {kExitFailure, 0};
}

/// Follows what the pager tells until the processes have left.
Ending follow(int socket, pid_t process, const SetupSignals& signals) {
    std::optional<Progress> progress(std::in_place, "back");
    const auto end_badly = [&](const std::string& why) {
        progress.reset();
        return ended_badly(why);
    };
    for (;;) {
        pollfd ready{socket, POLLIN, 0};
        const int count = poll(&ready, 1, kLookForSignalsMs);
        if (const int signal = signals.taken()) {
            end_badly(fmt::format("interrupted: {} of {} came back, process {} stays managed",
                                  format_size(progress->done), format_size(progress->all), process));
            return {128 + signal, signal};
        }
        if (count <= 0) continue;
        const auto message = receive_json(socket);
        if (!message || !*message)
            return end_badly(fmt::format("the pager of process {} has gone away before the end", process));
        if (const auto error = error_in(**message)) return end_badly(error->message);
        progress->all = (*message)->value("bytes", std::uint64_t{0});
        const auto far = (*message)->value("far_bytes", std::uint64_t{0});
        if ((*message)->value("done", false)) return {0, 0};
        progress->show(progress->all - std::min(progress->all, far));
    }
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
