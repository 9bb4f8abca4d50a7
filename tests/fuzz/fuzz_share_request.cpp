// What a stranger sends to farswapd about the budget: whatever comes through can be reckoned with, and the
// ledger keeps to the budget with it.
#include "daemon/share_request.h"

#include "daemon/ledger.h"
#include "fuzz.h"

using namespace farswap;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    constexpr std::uint64_t kBudget = std::uint64_t{1} << 30;
    daemon::Config config;
    config.ram = kBudget;
    daemon::Ledger ledger(config);
    daemon::Ledger::Clock::time_point now{};
    const auto bytes = std::as_bytes(std::span(data, size));
    bool comes_back = false;  // with a cap of its own, which is believed
    for (std::size_t at = 0; at < size && at < 32 * sizeof(cli::ShareRequest);
         at += sizeof(cli::ShareRequest)) {
        const auto part = bytes.subspan(at, std::min(sizeof(cli::ShareRequest), size - at));
        const auto request = daemon::parse_share_request(part);
        if (!request) {
            PROMISE(request.error().code > 0);
            PROMISE(request.error().message.size() < 200 &&
                    request.error().message.find('\n') == std::string::npos);
            continue;
        }
        now += std::chrono::milliseconds(300);
        const daemon::Ledger::Id id = at / sizeof(cli::ShareRequest) % 4;
        if (request->kind == cli::ShareRequestKind::kAsk) {
            comes_back = comes_back || request->cap > 0;
            ledger.release(id);
            (void)ledger.ask(id, {.process = 1, .user = static_cast<uid_t>(id)}, *request, now);
        } else if (request->kind == cli::ShareRequestKind::kReport) {
            ledger.report(id, *request, now);
        }
        const auto replies = ledger.take_replies(now);
        std::uint64_t told = 0;
        for (const auto& entry : ledger.entries())
            told += entry.kind == cli::ShareReplyKind::kEntry ? entry.cap : 0;
        PROMISE(comes_back || told <= kBudget);
        for (const auto& reply : replies) PROMISE(reply.reply.text[sizeof reply.reply.text - 1] == '\0');
        for (const auto& line : ledger.take_lines()) PROMISE(line.find('\n') == std::string::npos);
    }
    return 0;
}
