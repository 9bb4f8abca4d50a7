// The agent: what src/target/agent.c does, in steps between which others run.
#include <cerrno>

#include "kernel.h"
#include "world.h"

namespace farswap::simulate {
namespace {

/// As probe() there: of the run's first page.
int probe(Context& uffd, std::uint64_t address) {
    const int error = uffd.zero_page(address, kPageSize);
    if (error == EEXIST) return 0;
    return error == 0 ? -ENODATA : -error;
}

Task<> move_range(Thread& thread, Context& uffd, const agent_range& range, agent_result& result) {
    result = {.moved = 0, .error = probe(uffd, range.src), .probed = 1};
    if (result.error != 0) co_return;
    result.probed = 0;
    while (result.moved < range.len) {
        co_await thread.pause();
        std::int64_t done = 0;
        const int error =
            uffd.move(range.dst + result.moved, range.src + result.moved, range.len - result.moved, done);
        result.moved += static_cast<std::uint64_t>(done);
        if (error == EAGAIN && done > 0) continue;
        if (error == 0) co_return;
        result.error = -error;
        co_return;
    }
}

}  // namespace

Task<> run_agent(Thread& thread, std::shared_ptr<Channel> channel, Context& uffd) {
    for (;;) {
        while (channel->requests.empty()) {
            if (channel->closed) co_return;
            co_await thread.block("a request", 0);
        }
        const agent_request request = channel->requests.front();
        channel->requests.pop_front();
        agent_reply reply{};
        reply.op = request.op;
        reply.sequence = request.sequence;
        co_await thread.pause();
        if (request.op == AGENT_MOVE) {
            for (std::uint32_t i = 0; i < request.count; ++i) {
                co_await move_range(thread, uffd, request.range[i], reply.result[i]);
                co_await thread.pause();
            }
            reply.count = request.count;
        } else if (request.op == AGENT_ZAP) {
            for (std::uint32_t i = 0; i < request.count; ++i) {
                const agent_range& range = request.range[i];
                co_await Kernel::discard(thread, range.dst, range.dst + range.len, false);
            }
        } else if (request.op == AGENT_UNSHARE) {
            for (std::uint32_t i = 0; i < request.count; ++i) {
                for (std::uint64_t at = 0; at < request.range[i].len; at += kPageSize) {
                    co_await Kernel::unshare(thread, request.range[i].src + at);
                    co_await thread.pause();
                }
            }
        } else {
            co_return;
        }
        channel->replies.push_back(reply);
    }
}

}  // namespace farswap::simulate
