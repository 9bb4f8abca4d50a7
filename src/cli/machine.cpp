// Judges the machine; see machine.h.
#include "cli/machine.h"

#include <fmt/format.h>

#include <charconv>
#include <cstring>

#include "cli/budget.h"
#include "cli/sizes.h"
#include "target/uapi.h"

namespace farswap::cli {

namespace {

struct NamedFeature {
    std::uint64_t bit;
    const char* name;
};
constexpr NamedFeature kFeatures[] = {
    {UFFD_FEATURE_MOVE, "MOVE"},           {UFFD_FEATURE_PAGEFAULT_FLAG_WP, "WP"},
    {UFFD_FEATURE_EVENT_FORK, "FORK"},     {UFFD_FEATURE_EVENT_REMAP, "REMAP"},
    {UFFD_FEATURE_EVENT_REMOVE, "REMOVE"}, {UFFD_FEATURE_EVENT_UNMAP, "UNMAP"}};

std::string feature_names(std::uint64_t bits) {
    std::string names;
    for (const auto& [bit, name] : kFeatures) {
        if ((bits & bit) != 0) names += (names.empty() ? "" : ", ") + std::string(name);
    }
    return names;
}

Finding kernel(const MachineFacts& facts) {
    const auto version = parse_kernel_version(facts.kernel_release);
    if (version && *version >= kKernelLeast)
        return {Verdict::kOk, "kernel", "Linux " + facts.kernel_release, ""};
    return {Verdict::kNo, "kernel",
            fmt::format("Linux {} is too old: farswap needs {}.{} or later", facts.kernel_release,
                        kKernelLeast.major, kKernelLeast.minor),
            "boot a newer kernel (Debian 12: apt install -t bookworm-backports linux-image-amd64)"};
}

constexpr const char* kGrantPtrace = "setcap cap_sys_ptrace+ep \"$(command -v farswap)\"";

/// What to type so that farswapd helps.
std::string get_help(const MachineFacts& facts) {
    switch (facts.helper_error) {
        case 0:
        case ENOENT:
        case ECONNREFUSED:
            return "systemctl enable --now farswapd.socket && usermod -aG farswap USER";
        case EACCES:
            return "usermod -aG farswap USER (the group that farswapd serves; a container has it by "
                   "--group-add)";
        default:
            return "mend the helper farswapd (" + facts.helper_refusal + ")";
    }
}

Finding userfaultfd(const MachineFacts& facts) {
    const std::string subject = "userfaultfd";
    switch (facts.uffd_error) {
        case 0:
            break;
        case EPERM:
        case EACCES:
            return {Verdict::kNo, subject, "not permitted to this user's programs",
                    fmt::format("{}, or sysctl vm.unprivileged_userfaultfd=1{}{}, or run as root (in a "
                                "container: --cap-add SYS_PTRACE --device /dev/userfaultfd)",
                                get_help(facts), facts.can_ptrace_all ? "" : " and ",
                                facts.can_ptrace_all ? "" : kGrantPtrace)};
        case ENOSYS:
            return {Verdict::kNo, subject, "this kernel is built without it",
                    "boot a kernel with CONFIG_USERFAULTFD=y"};
        default:
            return {Verdict::kNo, subject, fmt::format("fails: {}", ::strerrordesc_np(facts.uffd_error)), ""};
    }
    if (facts.uffd_missing != 0)
        return {Verdict::kNo, subject, "this kernel lacks " + feature_names(facts.uffd_missing),
                "boot Linux 6.8 or later"};
    if (facts.fork_by == target::ForkEnabler::kNobody)
        return {Verdict::kNo, subject, "its fork event needs the capability CAP_SYS_PTRACE, or farswapd",
                get_help(facts) + ", or " + kGrantPtrace +
                    ", or run as root (in a container: --cap-add SYS_PTRACE)"};
    return {Verdict::kOk, subject, "with " + feature_names(uffd_features_needed()), ""};
}

std::string maker(const MachineFacts& facts) {
    switch (facts.uffd_by) {
        case target::UffdMaker::kDevice:
            return "/dev/userfaultfd";
        case target::UffdMaker::kSystemCall:
            return facts.user == 0 ? "the system call" : "vm.unprivileged_userfaultfd=1";
        case target::UffdMaker::kHelper:
            return "farswapd";
        case target::UffdMaker::kNobody:
            break;
    }
    return "nothing";
}

std::string enabler(const MachineFacts& facts) {
    switch (facts.fork_by) {
        case target::ForkEnabler::kOurselves:
            if (facts.user == 0) return "CAP_SYS_PTRACE";
            return facts.has_file_capability ? "CAP_SYS_PTRACE of this program's file"
                                             : "CAP_SYS_PTRACE of its caller";
        case target::ForkEnabler::kHelper:
            return "farswapd";
        case target::ForkEnabler::kNobody:
            break;
    }
    return "nothing";
}

/// By what right it works; where it does not, the finding on userfaultfd says so.
Finding privileges(const MachineFacts& facts) {
    return {Verdict::kOk, "privileges",
            fmt::format("{}: a userfaultfd by {}, its fork event by {}",
                        facts.user == 0 ? "root" : fmt::format("user {}", facts.user), maker(facts),
                        enabler(facts)),
            ""};
}

Finding ptrace(const MachineFacts& facts) {
    if (facts.yama_scope >= 3)
        return {Verdict::kNo, "ptrace", "kernel.yama.ptrace_scope is 3: forbidden until the next boot",
                "set kernel.yama.ptrace_scope=1 in /etc/sysctl.d and boot"};
    if (facts.yama_scope == 2 && !facts.can_ptrace_all)
        return {Verdict::kNo, "ptrace", "kernel.yama.ptrace_scope is 2: for root alone",
                "sysctl kernel.yama.ptrace_scope=1, or run as root"};
    // Docker's own profile permits ptrace(2) to everybody, and the rest to who has the capability.
    if (!facts.refused_call.empty())
        return {
            Verdict::kNo, "ptrace",
            fmt::format("{} on our own children is refused: {}", facts.refused_call,
                        ::strerrordesc_np(facts.ptrace_error)),
            "in a container: --security-opt seccomp=PROFILE that allows process_vm_readv and pidfd_getfd, or "
            "--cap-add SYS_PTRACE"};
    if (facts.ptrace_error != 0)
        return {Verdict::kNo, "ptrace", fmt::format("refused: {}", ::strerrordesc_np(facts.ptrace_error)),
                "in a container: --cap-add SYS_PTRACE"};
    return {Verdict::kOk, "ptrace",
            fmt::format("allowed on our own children (Yama scope {})", facts.yama_scope), ""};
}

Finding seccomp(const MachineFacts& facts) {
    if (facts.can_filter) return {Verdict::kOk, "seccomp", "MADV_POPULATE and guards can be watched", ""};
    return {Verdict::kWarn, "seccomp",
            "MADV_POPULATE may overstep the cap, and memory may show old bytes where a guard "
            "(MADV_GUARD_INSTALL) was removed: to watch them needs the capability CAP_SYS_ADMIN",
            "run as root, if the program makes these calls"};
}

/// What to type so that io_uring is permitted.
std::string permit_io_uring(const MachineFacts& facts) {
    if (facts.io_uring_error == ENOSYS) return "boot a kernel with CONFIG_IO_URING=y";
    if (facts.io_uring_disabled > 0) return "sysctl kernel.io_uring_disabled=0";
    if (facts.io_uring_error == ENOMEM && !facts.can_lock_all)
        return "ulimit -l unlimited: its rings, and those of all programs of a user together, count as "
               "locked "
               "memory; or FARSWAP_IO_ENGINE=epoll";
    if (!io::is_refusal(facts.io_uring_error)) return "";
    return "in a container: --security-opt seccomp=PROFILE that allows io_uring_setup, _enter and _register";
}

bool uses_io_uring(const MachineFacts& facts) {
    return facts.io_engine ? *facts.io_engine == io::EngineKind::kIoUring : facts.io_uring_error == 0;
}

Finding io_engine(const MachineFacts& facts) {
    const std::string subject = "I/O engine";
    if (!facts.io_engine_refusal.empty()) return {Verdict::kNo, subject, facts.io_engine_refusal, ""};
    if (facts.io_engine == io::EngineKind::kEpoll)
        return {Verdict::kOk, subject, "epoll, as FARSWAP_IO_ENGINE asks for", ""};
    if (facts.io_uring_error == 0) return {Verdict::kOk, subject, "io_uring", ""};
    const char* why = ::strerrordesc_np(facts.io_uring_error);
    if (facts.io_engine || !io::is_refusal(facts.io_uring_error))
        return {Verdict::kNo, subject, fmt::format("io_uring fails: {}", why),
                facts.io_engine ? permit_io_uring(facts) + ", or unset FARSWAP_IO_ENGINE"
                                : permit_io_uring(facts)};
    return {Verdict::kWarn, subject,
            fmt::format("io_uring is refused here ({}): epoll serves, with threads for file: stores", why),
            permit_io_uring(facts)};
}

Finding pagemap_scan(const MachineFacts& facts) {
    if (facts.pagemap_scan_error == 0) return {Verdict::kOk, "PAGEMAP_SCAN", "available", ""};
    return {Verdict::kNo, "PAGEMAP_SCAN",
            fmt::format("fails: {}", ::strerrordesc_np(facts.pagemap_scan_error)),
            "boot a kernel with CONFIG_PROC_PAGE_MONITOR=y, 6.8 or later"};
}

Finding locked_memory(const MachineFacts& facts) {
    if (facts.can_lock_all) return {Verdict::kOk, "locked memory", "no limit", ""};
    const auto text = fmt::format("{} for a pool of {} (at the default cap)",
                                  format_size(facts.memlock_limit), format_size(facts.pool));
    // With io_uring the pool is counted twice: once locked, once registered.
    const std::uint64_t needed = uses_io_uring(facts) ? 2 * facts.pool : facts.pool;
    if (facts.memlock_limit >= needed + kLockedBesidePool) return {Verdict::kOk, "locked memory", text, ""};
    const std::string advice =
        "ulimit -l unlimited, or a line \"USER - memlock unlimited\" in /etc/security/limits.conf";
    if (facts.memlock_limit < kPoolLeast + kLockedBesidePool)
        return {Verdict::kWarn, "locked memory",
                text + ": not enough for the smallest, so that jobs run with --seal off only", advice};
    return {Verdict::kWarn, "locked memory",
            text + ": it will be smaller, or not registered with io_uring, and I/O costs more", advice};
}

Finding huge_pages(const MachineFacts& facts) {
    if (facts.huge_pages != "always")
        return {Verdict::kOk, "huge pages", facts.huge_pages.empty() ? "none" : facts.huge_pages, ""};
    return {Verdict::kWarn, "huge pages", "always: sparse memory fills the cap 2 MiB at a time",
            "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled"};
}

/// Whether a page can be moved while the kernel swaps it out without the kernel stopping with a BUG
/// (CVE-2025-21984) or counting it to another process (CVE-2025-38242): commit 0ea148a79919, and the stable
/// trees that have it.
bool moves_what_is_swapped(const KernelVersion& version) {
    if (version.major == 6 && version.minor == 12) return version.patch >= 37;
    return version >= KernelVersion{6, 15, 5};
}

Finding kernel_swap(const MachineFacts& facts) {
    const std::string subject = "kernel swap";
    if (!facts.kernel_swaps) return {Verdict::kOk, subject, "off", ""};
    const auto version = parse_kernel_version(facts.kernel_release);
    if (version && moves_what_is_swapped(*version)) return {Verdict::kOk, subject, "on", ""};
    return {Verdict::kWarn, subject,
            "on: such a kernel may stop when farswap moves a page that it is just swapping out "
            "(CVE-2025-21984, CVE-2025-38242)",
            "swapoff -a, or boot Linux 6.12.37, 6.15.5, 6.16 or later"};
}

Finding overcommit(const MachineFacts& facts) {
    const auto& state = facts.overcommit;
    const std::string subject = "overcommit";
    if (state.mode == 1) {
        if (facts.overcommit_to_restore.empty()) return {Verdict::kOk, subject, "mappings of any size", ""};
        return {
            Verdict::kOk, subject, "mappings of any size, switched on by farswap run --overcommit",
            "sysctl vm.overcommit_memory=" + facts.overcommit_to_restore + ", if no such job runs any more"};
    }
    if (state.mode == 2)
        return {Verdict::kWarn, subject,
                fmt::format(
                    "vm.overcommit_memory is 2: memory beyond the commit limit of {} is refused ({} used)",
                    format_size(state.commit_limit), format_size(state.committed)),
                "sysctl vm.overcommit_memory=1"};
    return {Verdict::kOk, subject,
            fmt::format("vm.overcommit_memory is 0: a single mapping larger than {} is refused",
                        format_size(state.largest_mapping)),
            "sysctl vm.overcommit_memory=1, if a program needs one; root: farswap run --overcommit"};
}

Finding memory(const MachineFacts& facts) {
    return {Verdict::kOk, "memory",
            fmt::format("{} ({})", format_size(facts.memory.bytes), facts.memory.source), ""};
}

}  // namespace

std::optional<KernelVersion> parse_kernel_version(std::string_view release) {
    KernelVersion version;
    const char* const end = release.data() + release.size();
    const auto major = std::from_chars(release.data(), end, version.major);
    if (major.ec != std::errc() || major.ptr == end || *major.ptr != '.') return std::nullopt;
    const auto minor = std::from_chars(major.ptr + 1, end, version.minor);
    if (minor.ec != std::errc()) return std::nullopt;
    if (minor.ptr != end && *minor.ptr == '.') std::from_chars(minor.ptr + 1, end, version.patch);
    return version;
}

std::uint64_t uffd_features_needed() noexcept {
    std::uint64_t bits = 0;
    for (const auto& feature : kFeatures) bits |= feature.bit;
    return bits;
}

std::vector<Finding> assess(const MachineFacts& facts) {
    std::vector<Finding> findings{kernel(facts), userfaultfd(facts)};
    if (findings.back().verdict == Verdict::kOk) findings.push_back(privileges(facts));
    for (const auto judge : {ptrace, seccomp, io_engine, pagemap_scan, locked_memory, huge_pages, kernel_swap,
                             overcommit, memory})
        findings.push_back(judge(facts));
    return findings;
}

std::string format_finding(const Finding& finding) {
    constexpr const char* kWords[] = {"ok", "warn", "no"};
    auto text = fmt::format("{:<6}{:<15}{}\n", kWords[static_cast<int>(finding.verdict)], finding.subject,
                            finding.text);
    if (!finding.remedy.empty()) text += fmt::format("{:21}type: {}\n", "", finding.remedy);
    return text;
}

}  // namespace farswap::cli
