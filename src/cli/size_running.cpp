#include "cli/size_running.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>

#include "base/descriptor_message.h"
#include "base/log.h"
#include "cli/control_socket.h"
#include "cli/setup_signals.h"
#include "cli/size_text.h"
#include "target/proc.h"

namespace farswap::cli {
namespace {

constexpr int kLookForSignalsMs = 100;
constexpr std::chrono::seconds kAnswerLimit{10};
constexpr std::size_t kAnswerMax = 16 << 10;

/// What a pager has told of its run.
struct Told {
    pid_t pager = 0;
    SizeFacts facts;
    MissCurve misses;
};

Result<ReceivedMessage> answer_of(const PagerConnection& pager, std::string& text,
                                  const SetupSignals& signals) {
    const auto until = std::chrono::steady_clock::now() + kAnswerLimit;
    pollfd ready{pager.socket.get(), POLLIN, 0};
    while (poll(&ready, 1, kLookForSignalsMs) <= 0) {
        if (signals.taken() != 0) return fail(EINTR, "interrupted");
        if (std::chrono::steady_clock::now() > until)
            return fail(ETIMEDOUT, "pager {} does not answer (is it stopped?)", pager.process);
    }
    auto message = receive_message(pager.socket.get(), text.data(), text.size());
    if (message.error != 0 || message.bytes == 0)
        return fail(EPIPE, "pager {} has gone away: its job has ended", pager.process);
    text.resize(message.bytes);
    return message;
}

/// It need not be what an honest pager sends: root asks those of all users. Only files in memory have seals;
/// another's file system may let who reads wait for ever.
std::optional<MissCurve> read_misses(const Fd& file) {
    struct stat facts {};
    if (!file || fcntl(file.get(), F_GET_SEALS) < 0 || fstat(file.get(), &facts) != 0) return {};
    const auto bytes = static_cast<std::size_t>(std::max<off_t>(facts.st_size, 0));
    if (bytes > MissCurve::kWordsMax * sizeof(std::uint64_t)) return {};
    std::vector<std::uint64_t> words(bytes / sizeof(std::uint64_t));
    const std::size_t wanted = words.size() * sizeof(std::uint64_t);
    if (pread(file.get(), words.data(), wanted, 0) != static_cast<ssize_t>(wanted)) return {};
    return MissCurve::of_words(words);
}

Result<Told> ask(pid_t process, const SetupSignals& signals) {
    if (target::read_state(process) == '\0') return fail(ESRCH, "there is no process {}", process);
    const auto pager = find_pager_of(process, [&] { return signals.taken() != 0; });
    if (!pager) return std::unexpected(pager.error());
    if (!send_json(pager->socket.get(), {{"do", "size"}}))
        return fail(EPIPE, "pager {} has gone away: its job has ended", pager->process);
    std::string text(kAnswerMax, '\0');
    const auto message = answer_of(*pager, text, signals);
    if (!message) return std::unexpected(message.error());
    const auto json = nlohmann::json::parse(text, nullptr, false);
    if (const auto error = error_in(json))
        return fail(error->code, "pager {}: {}", pager->process, error->message);
    const auto facts = size_facts_from(json);
    auto misses = read_misses(message->descriptor);
    if (facts && misses) return Told{pager->process, *facts, std::move(*misses)};
    return fail(EPROTO, "pager {} is of another version of farswap", pager->process);
}

}  // namespace

Ending size_command(const SizeOptions& options) {
    const SetupSignals signals;
    const auto told = ask(options.process, signals);
    if (const int signal = signals.taken()) {
        log::write_line("interrupted");
        return {128 + signal, signal};
    }
    if (!told) {
        log::write_line(told.error().message);
        return {kExitFailure, 0};
    }
    const auto estimate = estimate_size(told->facts, told->misses);
    if (options.json) {
        auto json = size_json(estimate);
        json["process"] = options.process;
        json["pager"] = told->pager;
        json["elapsed_s"] = told->facts.elapsed_s;
        json["cap_bytes"] = told->facts.ram_cap;
        std::puts(json.dump().c_str());
    } else {
        for (const auto& line : size_lines(estimate, SizeOf::kSoFar)) std::puts(line.c_str());
    }
    return {std::fflush(stdout) == 0 ? 0 : kExitFailure, 0};
}

}  // namespace farswap::cli
