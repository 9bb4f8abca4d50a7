#include "target/rseq.h"

#include <linux/rseq.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

#include <cstddef>

namespace farswap::target {
namespace {

// PTRACE_GET_RSEQ_CONFIGURATION and its structure (linux/ptrace.h, which does not go with sys/ptrace.h).
constexpr int kGetRseqConfiguration = 0x420f;
struct RseqConfiguration {
    std::uint64_t area;
    std::uint32_t size, signature, flags, pad;
};

template <typename T>
bool read_from(pid_t task, std::uint64_t address, T& value) {
    iovec local{&value, sizeof value};
    iovec remote{reinterpret_cast<void*>(address), sizeof value};
    return process_vm_readv(task, &local, 1, &remote, 1, 0) == sizeof value;
}

}  // namespace

std::optional<std::uint64_t> rseq_abort(pid_t task, std::uint64_t instruction) {
    RseqConfiguration configuration{};
    if (ptrace(static_cast<__ptrace_request>(kGetRseqConfiguration), task, sizeof configuration,
               &configuration) != sizeof configuration ||
        configuration.area == 0)
        return std::nullopt;
    std::uint64_t sequence = 0;
    if (!read_from(task, configuration.area + offsetof(struct rseq, rseq_cs), sequence) || sequence == 0)
        return std::nullopt;
    struct rseq_cs section {};
    if (!read_from(task, sequence, section)) return std::nullopt;
    if (instruction - section.start_ip >= section.post_commit_offset) return std::nullopt;
    return section.abort_ip;
}

}  // namespace farswap::target
