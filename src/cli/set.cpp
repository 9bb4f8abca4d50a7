#include "cli/set.h"

#include <poll.h>

#include <cstdio>

#include "base/log.h"
#include "cli/control_socket.h"
#include "cli/exit_status.h"
#include "target/proc.h"

namespace farswap::cli {
namespace {

Result<nlohmann::json> answer_of(const PagerConnection& pager, std::chrono::milliseconds patience) {
    pollfd ready{pager.socket.get(), POLLIN, 0};
    if (poll(&ready, 1, static_cast<int>(patience.count())) <= 0)
        return fail(ETIMEDOUT, "pager {} does not answer (is it stopped?)", pager.process);
    auto answer = receive_json(pager.socket.get());
    if (!answer || !*answer) return fail(EPIPE, "pager {} has gone away", pager.process);
    if (auto error = error_in(**answer)) return std::unexpected(std::move(*error));
    return std::move(**answer);
}

}  // namespace

Result<CapChange> set_ram_of(pid_t process, const RamSize& ram, std::chrono::milliseconds patience) {
    if (target::read_state(process) == '\0') return fail(ESRCH, "there is no process {}", process);
    const auto pager = find_pager_of(process);
    if (!pager) return std::unexpected(pager.error());
    nlohmann::json request{{"do", "set"}};
    if (ram.percent > 0)
        request["ram_percent"] = ram.percent;
    else
        request["ram_bytes"] = ram.bytes;
    if (!send_json(pager->socket.get(), request))
        return fail(EPIPE, "the pager of process {} has gone away", process);
    try {
        const auto answer = answer_of(*pager, patience);
        if (!answer) return std::unexpected(answer.error());
        return CapChange{.cap = answer->at("cap_bytes"),
                         .before = answer->at("cap_before_bytes"),
                         .used = answer->at("used_bytes"),
                         .limit = answer->at("limit_bytes"),
                         .pager = pager->process};
    } catch (const nlohmann::json::exception&) {
        return fail(EPROTO, "the pager of process {} is of another version of farswap", process);
    }
}

std::string describe(const CapChange& change) {
    return fmt::format("cap {} instead of {}, {} are used", format_size(change.cap),
                       format_size(change.before), format_size(change.used));
}

std::string what_budget_leaves(const CapChange& change, const RamSize& asked) {
    if (change.cap >= asked.bytes) return {};
    return fmt::format("this machine's budget leaves the job {} now, {} when there is more",
                       format_size(change.cap), format_size(asked.bytes));
}

int set_command(const SetOptions& options) {
    const auto change = set_ram_of(options.process, options.ram);
    if (!change) {
        log::write_line(change.error().message);
        return kExitFailure;
    }
    if (change->cap > change->limit)
        log::write_line(fmt::format(
            "{} is more than there is for the job ({}): it may be killed before it reaches its cap",
            format_size(change->cap), format_size(change->limit)));
    if (const auto left = what_budget_leaves(*change, options.ram); !left.empty()) log::write_line(left);
    const auto text = options.json ? nlohmann::json{{"process", options.process},
                                                    {"pager", change->pager},
                                                    {"cap_bytes", change->cap},
                                                    {"cap_before_bytes", change->before},
                                                    {"used_bytes", change->used}}
                                         .dump()
                                   : describe(*change);
    std::puts(text.c_str());
    return std::fflush(stdout) == 0 ? 0 : kExitFailure;
}

}  // namespace farswap::cli
