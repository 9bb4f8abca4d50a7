// See machine_budget.h.
#include "cli/machine_budget.h"

#include <pwd.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/descriptor_message.h"
#include "base/log.h"
#include "cli/exit_status.h"
#include "cli/machine_share.h"
#include "cli/sizes.h"
#include "target/helper.h"

namespace farswap::cli {
namespace {

/// The jobs, and last the sum of all.
Result<std::vector<ShareReply>> ask_for_entries() {
    auto socket = target::connect_to_farswapd(share_socket(), true);
    if (!socket && (socket.error().code == ENOENT || socket.error().code == ECONNREFUSED))
        return fail(ENOENT, "{}: no farswapd divides a budget here; see farswapd --help", share_socket());
    if (!socket) return std::unexpected(socket.error());
    const ShareRequest request{.kind = ShareRequestKind::kList};
    if (const int error = send_message(socket->get(), &request, sizeof request, -1);
        error != 0 && error != EPIPE)
        return fail_errno(error, "{}", share_socket());
    std::vector<ShareReply> entries;
    for (;;) {
        auto reply = receive_share_reply(socket->get());
        if (!reply) return std::unexpected(reply.error());
        if (reply->kind == ShareReplyKind::kNone)
            return fail(ENOENT, "farswapd has no budget to divide: write [machine] into its configuration");
        if (reply->kind == ShareReplyKind::kRefused) return fail(reply->error, "farswapd: {}", reply->text);
        entries.push_back(*reply);
        if (reply->kind == ShareReplyKind::kEnd) return entries;
    }
}

std::string name_of(uid_t user) {
    const passwd* entry = getpwuid(user);
    return entry != nullptr ? entry->pw_name : std::to_string(user);
}

std::string table_of(const std::vector<ShareReply>& entries) {
    std::string text = fmt::format("{:>8} {:<12} {:>9} {:>9} {:>9}\n", "PID", "USER", "CAP", "RAM", "FAR");
    for (std::size_t i = 0; i + 1 < entries.size(); ++i) {
        const ShareReply& one = entries[i];
        text += fmt::format("{:>8} {:<12} {:>9} {:>9} {:>9}\n", one.process, name_of(one.user),
                            format_size(one.cap), format_size(one.ram), format_size(one.far));
    }
    const ShareReply& all = entries.back();
    return text + fmt::format("{} of {} are held by {} job{}\n", format_size(all.held),
                              format_size(all.budget), entries.size() - 1, entries.size() == 2 ? "" : "s");
}

std::string json_of(const std::vector<ShareReply>& entries) {
    auto jobs = nlohmann::json::array();
    for (std::size_t i = 0; i + 1 < entries.size(); ++i) {
        const ShareReply& one = entries[i];
        jobs.push_back({{"pager", one.process},
                        {"user", one.user},
                        {"cap_bytes", one.cap},
                        {"held_bytes", one.held},
                        {"used_bytes", one.ram},
                        {"far_bytes", one.far}});
    }
    return nlohmann::json{{"budget_bytes", entries.back().budget},
                          {"held_bytes", entries.back().held},
                          {"jobs", std::move(jobs)}}
               .dump() +
           "\n";
}

}  // namespace

int budget_command(const BudgetOptions& options) {
    const auto entries = ask_for_entries();
    if (!entries) {
        log::write_line(entries.error().message);
        return kExitFailure;
    }
    std::fputs((options.json ? json_of(*entries) : table_of(*entries)).c_str(), stdout);
    return std::fflush(stdout) == 0 ? 0 : kExitFailure;
}

}  // namespace farswap::cli
