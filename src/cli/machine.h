// Can this machine do it: what was found, and what that means. Judges; finds out nothing itself (see
// probe.h).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cli/memory_limit.h"
#include "cli/overcommit.h"
#include "io/engine_kind.h"
#include "target/uffd_source.h"

namespace farswap::cli {

struct KernelVersion {
    int major = 0, minor = 0, patch = 0;
    auto operator<=>(const KernelVersion&) const = default;
};
/// UFFDIO_MOVE came with 6.8; without it no page can be moved out correctly.
inline constexpr KernelVersion kKernelLeast{6, 8};
/// "6.18.44-fc-v595" -> 6.18.44, "6.8" -> 6.8.0; nothing for what does not begin so.
std::optional<KernelVersion> parse_kernel_version(std::string_view release);

/// What `farswap check` found. An error number of 0 is success.
struct MachineFacts {
    std::string kernel_release;
    int uffd_error = 0;  ///< of making a userfaultfd as the program will be able to
    target::UffdMaker uffd_by = target::UffdMaker::kNobody;      ///< what can make one
    target::ForkEnabler fork_by = target::ForkEnabler::kNobody;  ///< what allows its fork event
    unsigned user = 0;                                           ///< our own
    bool has_file_capability = false;  ///< whether a capability is this program's file's, not its caller's
    int helper_error = 0;              ///< of asking farswapd, where something is lacking
    std::string helper_refusal{};      ///< the same in words, with the socket's name
    std::uint64_t uffd_missing = 0;    ///< feature bits that the kernel does not offer
    int yama_scope = 0;                ///< kernel.yama.ptrace_scope; 0 where there is no Yama
    int ptrace_error = 0;              ///< of PTRACE_SEIZE on a child of ours, or of refused_call
    std::string refused_call{};   ///< what is refused beside it on a child that we may trace; empty: nothing
    bool can_ptrace_all = false;  ///< CAP_SYS_PTRACE
    bool can_filter = false;      ///< CAP_SYS_ADMIN or no_new_privs, which a seccomp filter needs
    int io_uring_error = 0;       ///< of io::try_io_uring()
    std::optional<io::EngineKind> io_engine{};  ///< what FARSWAP_IO_ENGINE asks for
    std::string io_engine_refusal{};            ///< why what it holds is none
    int io_uring_disabled = 0;                  ///< kernel.io_uring_disabled
    int pagemap_scan_error = 0;                 ///< of PAGEMAP_SCAN on ourselves
    bool can_lock_all = false;                  ///< CAP_IPC_LOCK, or no limit
    std::uint64_t memlock_limit = 0;            ///< RLIMIT_MEMLOCK, bytes
    std::string huge_pages;     ///< the mode in brackets of transparent_hugepage/enabled; empty: none
    bool kernel_swaps = false;  ///< somebody has used swapon(8): /proc/swaps
    OvercommitState overcommit;
    std::string overcommit_to_restore{};  ///< see overcommit.h
    MemoryLimit memory;
    std::uint64_t pool = 0;  ///< bytes, for the default cap
};

/// The features without which memory is lost: MOVE, write-protection, and the events of FORK, REMAP, REMOVE
/// and UNMAP.
std::uint64_t uffd_features_needed() noexcept;

enum class Verdict { kOk, kWarn, kNo };

/// One line of the report.
struct Finding {
    Verdict verdict = Verdict::kOk;
    std::string subject;  ///< "userfaultfd"
    std::string text;     ///< what was found
    std::string remedy;   ///< what to type; empty when there is nothing to mend
};

std::vector<Finding> assess(const MachineFacts& facts);

/// "no    userfaultfd        not permitted" and, below it, "                        type: sysctl ...".
std::string format_finding(const Finding& finding);

}  // namespace farswap::cli
