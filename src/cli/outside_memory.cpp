#include "cli/outside_memory.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstring>

#include "cli/control_socket.h"
#include "farswap/request.h"

namespace farswap::cli {
namespace {

std::unexpected<Error> gone() {
    return fail(EPIPE, "the pager of the process has gone away");
}

/// What nlohmann's exceptions would say of an answer in a form that nobody sends.
Error misunderstood() {
    return Error{EPROTO, "the pager of the process is of another version of farswap"};
}

}  // namespace

Result<OutsideMemory> OutsideMemory::open(pid_t process, std::function<bool()> is_interrupted) {
    auto pager = find_pager_of(process, is_interrupted);
    if (!pager) return std::unexpected(pager.error());
    return OutsideMemory(process, std::move(pager->socket), std::move(is_interrupted));
}

Status OutsideMemory::await_answer() const {
    return is_interrupted_ ? await_message(socket_.get(), is_interrupted_) : Status{};
}

Result<nlohmann::json> OutsideMemory::ask(const nlohmann::json& request) const {
    if (!send_json(socket_.get(), request)) return gone();
    if (auto come = await_answer(); !come) return std::unexpected(come.error());
    auto answer = receive_json(socket_.get());
    if (!answer || !*answer) return gone();
    if (auto error = error_in(**answer)) return std::unexpected(std::move(*error));
    return std::move(**answer);
}

Status OutsideMemory::hold() {
    const auto held = ask({{"do", "hold"}, {"process", process_}});
    if (!held) return std::unexpected(held.error());
    try {
        agent_ = held->at("agent").get<pid_t>();
        agent_memory_ = {held->at("start").get<std::uint64_t>(), held->at("end").get<std::uint64_t>()};
    } catch (const nlohmann::json::exception&) {
        return std::unexpected(misunderstood());
    }
    return {};
}

Result<OutsideMemory::Outside> OutsideMemory::outside(std::uint64_t start, std::uint64_t end) {
    const auto answer = ask({{"do", "outside"}, {"process", process_}, {"start", start}, {"end", end}});
    if (!answer) return std::unexpected(answer.error());
    Outside found;
    try {
        found.until = answer->at("until").get<std::uint64_t>();
        for (const auto& range : answer->at("ranges")) {
            const target::AddressRange one{range.at(0).get<std::uint64_t>(),
                                           range.at(1).get<std::uint64_t>()};
            if (!found.ranges.empty() && one.start <= found.ranges.back().end)
                found.ranges.back().end = std::max(found.ranges.back().end, one.end);
            else
                found.ranges.push_back(one);
        }
    } catch (const nlohmann::json::exception&) {
        return std::unexpected(misunderstood());
    }
    if (found.until <= start && start < end) return std::unexpected(misunderstood());
    return found;
}

Result<std::uint32_t> OutsideMemory::read(std::uint64_t start, std::span<std::byte> into) {
    const std::size_t pages = into.size() / kPageSize;
    const auto answer = ask({{"do", "read"}, {"process", process_}, {"start", start}, {"pages", pages}});
    if (!answer) return std::unexpected(answer.error());
    std::vector<std::byte> content(pages * kPageSize);
    if (auto come = await_answer(); !come) return std::unexpected(come.error());
    const auto got = receive_bytes(socket_.get(), content);
    if (!got) return gone();
    try {
        const auto outside = answer->at("outside").get<std::uint32_t>();
        if (*got != content.size()) return std::unexpected(misunderstood());
        for (std::size_t i = 0; i < pages; i++) {
            if ((outside >> i & 1) != 0)
                std::memcpy(into.data() + i * kPageSize, content.data() + i * kPageSize, kPageSize);
        }
        return outside;
    } catch (const nlohmann::json::exception&) {
        return std::unexpected(misunderstood());
    }
}

}  // namespace farswap::cli
