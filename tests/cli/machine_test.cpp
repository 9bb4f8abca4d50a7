// Verdicts about machines.
#include "cli/machine.h"

#include <gmock/gmock.h>

#include "cli/probe.h"
#include "target/helper_protocol.h"

namespace farswap::cli {
namespace {

using ::testing::HasSubstr;

MachineFacts good_machine() {
    return {.kernel_release = "6.12.9-amd64",
            .uffd_by = target::UffdMaker::kDevice,
            .fork_by = target::ForkEnabler::kOurselves,
            .can_ptrace_all = true,
            .can_filter = true,
            .can_lock_all = true,
            .huge_pages = "madvise",
            .overcommit = {.mode = 1},
            .memory = {16ull << 30, "the machine's RAM"},
            .pool = 256ull << 20};
}

Finding finding_on(const std::string& subject, const MachineFacts& facts) {
    for (const auto& finding : assess(facts)) {
        if (finding.subject == subject) return finding;
    }
    ADD_FAILURE() << "nothing said on " << subject;
    return {};
}

void expect(Verdict verdict, const std::string& subject, const MachineFacts& facts,
            const std::string& words) {
    const auto finding = finding_on(subject, facts);
    EXPECT_EQ(finding.verdict, verdict) << finding.text;
    EXPECT_THAT(finding.text + " | " + finding.remedy, HasSubstr(words));
}

TEST(KernelVersion, IsParsed) {
    EXPECT_EQ(parse_kernel_version("6.18.44-fc-v595"), (KernelVersion{6, 18, 44}));
    EXPECT_EQ(parse_kernel_version("6.8"), (KernelVersion{6, 8}));
    EXPECT_EQ(parse_kernel_version("7.0-rc1"), (KernelVersion{7, 0}));
    EXPECT_FALSE(parse_kernel_version("6"));
    EXPECT_FALSE(parse_kernel_version("six.eight"));
    EXPECT_FALSE(parse_kernel_version(""));
    EXPECT_GT((KernelVersion{7, 0}), kKernelLeast);
}

TEST(Assess, FindsNothingOnAGoodMachine) {
    for (const auto& finding : assess(good_machine()))
        EXPECT_EQ(finding.verdict, Verdict::kOk) << finding.subject;
}

// The versions of CVE-2025-38242, the later of the two.
TEST(Assess, WarnsOfKernelSwapWhereMovesMeetIt) {
    auto facts = good_machine();
    facts.kernel_swaps = true;
    for (const char* bad :
         {"6.8.0-45-generic", "6.11.11", "6.12.36", "6.13.12", "6.14.11", "6.15.4-200.fc42"}) {
        facts.kernel_release = bad;
        expect(Verdict::kWarn, "kernel swap", facts, "CVE-2025-21984");
    }
    for (const char* good :
         {"6.12.37", "6.12.43+deb12-amd64", "6.15.5", "6.16", "6.18.44-fc-v595", "7.0-rc1"}) {
        facts.kernel_release = good;
        expect(Verdict::kOk, "kernel swap", facts, "on");
    }
    facts = good_machine();
    facts.kernel_release = "6.8.0";
    expect(Verdict::kOk, "kernel swap", facts, "off");
}

TEST(Assess, WarnsWhereCallsCannotBeWatched) {
    auto facts = good_machine();
    facts.can_filter = false;
    expect(Verdict::kWarn, "seccomp", facts, "CAP_SYS_ADMIN");
}

TEST(Assess, RefusesOldKernels) {
    auto facts = good_machine();
    for (const char* release : {"6.7.12", "5.10.0-28-amd64", "weird"}) {
        facts.kernel_release = release;
        expect(Verdict::kNo, "kernel", facts, "6.8 or later");
    }
}

TEST(Assess, NamesWhatUserfaultfdLacks) {
    auto facts = good_machine();
    facts.uffd_missing = UFFD_FEATURE_MOVE | UFFD_FEATURE_EVENT_UNMAP;
    expect(Verdict::kNo, "userfaultfd", facts, "lacks MOVE, UNMAP");
    facts.uffd_error = EPERM;
    expect(Verdict::kNo, "userfaultfd", facts, "vm.unprivileged_userfaultfd=1");
    facts.can_ptrace_all = false;
    expect(Verdict::kNo, "userfaultfd", facts, "vm.unprivileged_userfaultfd=1 and setcap cap_sys_ptrace");
    facts.uffd_error = ENOSYS;
    expect(Verdict::kNo, "userfaultfd", facts, "CONFIG_USERFAULTFD");
    facts = good_machine();
    facts.fork_by = target::ForkEnabler::kNobody;
    expect(Verdict::kNo, "userfaultfd", facts, "setcap cap_sys_ptrace");
}

TEST(Assess, SaysHowToGetHelp) {
    auto facts = good_machine();
    facts.fork_by = target::ForkEnabler::kNobody;
    facts.helper_error = ENOENT;
    expect(Verdict::kNo, "userfaultfd", facts, "systemctl enable --now farswapd.socket");
    facts.helper_error = EACCES;
    expect(Verdict::kNo, "userfaultfd", facts, "| usermod -aG farswap");
    expect(Verdict::kNo, "userfaultfd", facts, "a container has it by --group-add");
    facts.helper_error = EPERM;
    facts.helper_refusal = "/run/farswapd.sock: user 7 listens there, who is not root";
    expect(Verdict::kNo, "userfaultfd", facts, "user 7 listens there");
    facts.uffd_error = EPERM;
    expect(Verdict::kNo, "userfaultfd", facts, "user 7 listens there");
}

TEST(Assess, TellsByWhatRightItWorks) {
    auto facts = good_machine();
    expect(Verdict::kOk, "privileges", facts,
           "root: a userfaultfd by /dev/userfaultfd, its fork event by CAP_SYS_PTRACE");
    facts.user = 1000;
    facts.has_file_capability = true;
    facts.uffd_by = target::UffdMaker::kSystemCall;
    expect(Verdict::kOk, "privileges", facts,
           "user 1000: a userfaultfd by vm.unprivileged_userfaultfd=1, its fork event by CAP_SYS_PTRACE of "
           "this program's file");
    facts.uffd_by = target::UffdMaker::kHelper;
    facts.fork_by = target::ForkEnabler::kHelper;
    expect(Verdict::kOk, "privileges", facts, "a userfaultfd by farswapd, its fork event by farswapd");
    facts.uffd_error = EPERM;
    for (const auto& finding : assess(facts)) EXPECT_NE(finding.subject, "privileges");
}

TEST(Assess, AsksForWhatThePagerUses) {
    EXPECT_EQ(uffd_features_needed(), target::kUffdFeatures);
}

TEST(Assess, KnowsYama) {
    auto facts = good_machine();
    facts.yama_scope = 3;
    expect(Verdict::kNo, "ptrace", facts, "until the next boot");
    facts.yama_scope = 2;
    expect(Verdict::kOk, "ptrace", facts, "");
    facts.can_ptrace_all = false;
    expect(Verdict::kNo, "ptrace", facts, "kernel.yama.ptrace_scope=1");
    facts.yama_scope = 1;
    expect(Verdict::kOk, "ptrace", facts, "");
    facts.ptrace_error = EPERM;
    expect(Verdict::kNo, "ptrace", facts, "SYS_PTRACE");
    facts.refused_call = "process_vm_readv";
    expect(Verdict::kNo, "ptrace", facts,
           "process_vm_readv on our own children is refused: Operation not permitted");
}

TEST(Assess, KnowsWhatBlocksIoUring) {
    auto facts = good_machine();
    expect(Verdict::kOk, "I/O engine", facts, "io_uring");
    facts.io_uring_error = EPERM;
    facts.io_uring_disabled = 2;
    expect(Verdict::kWarn, "I/O engine", facts, "epoll serves, with threads for file: stores");
    expect(Verdict::kWarn, "I/O engine", facts, "kernel.io_uring_disabled=0");
    facts.io_uring_disabled = 0;
    expect(Verdict::kWarn, "I/O engine", facts, "seccomp");
    facts.io_uring_error = ENOSYS;
    expect(Verdict::kWarn, "I/O engine", facts, "CONFIG_IO_URING");
    facts.io_uring_error = ENOMEM;
    expect(Verdict::kNo, "I/O engine", facts, "io_uring fails: Cannot allocate memory");
}

TEST(Assess, KnowsWhichEngineIsAskedFor) {
    auto facts = good_machine();
    facts.io_engine = io::EngineKind::kEpoll;
    expect(Verdict::kOk, "I/O engine", facts, "epoll, as FARSWAP_IO_ENGINE asks for");
    facts.io_uring_error = EPERM;
    expect(Verdict::kOk, "I/O engine", facts, "epoll");
    facts.io_engine = io::EngineKind::kIoUring;
    expect(Verdict::kNo, "I/O engine", facts, "unset FARSWAP_IO_ENGINE");
    facts.io_engine.reset();
    facts.can_lock_all = false;
    facts.io_uring_error = ENOMEM;
    expect(Verdict::kNo, "I/O engine", facts, "io_uring fails: Cannot allocate memory | ulimit -l");
    facts.io_engine_refusal = "FARSWAP_IO_ENGINE=x names no engine";
    expect(Verdict::kNo, "I/O engine", facts, "names no engine");
}

TEST(Assess, WarnsWhereTheJobStillRuns) {
    auto facts = good_machine();
    facts.can_lock_all = false;
    facts.memlock_limit = 8 << 20;
    expect(Verdict::kWarn, "locked memory", facts, "8.0 MiB for a pool of 256 MiB");
    facts.memlock_limit = 64 << 10;
    expect(Verdict::kWarn, "locked memory", facts, "jobs run with --seal off only");
    facts.memlock_limit = 513 << 20;
    expect(Verdict::kOk, "locked memory", facts, "");
    facts.memlock_limit = 257 << 20;
    expect(Verdict::kWarn, "locked memory", facts, "it will be smaller");
    facts.io_uring_error = EPERM;  // epoll does not register it
    expect(Verdict::kOk, "locked memory", facts, "");
    facts.io_uring_error = 0;
    facts.io_engine = io::EngineKind::kEpoll;
    expect(Verdict::kOk, "locked memory", facts, "");
    facts.huge_pages = "always";
    expect(Verdict::kWarn, "huge pages", facts, "madvise");
    facts.overcommit = {.mode = 2, .commit_limit = 12ull << 30};
    expect(Verdict::kWarn, "overcommit", facts, "12 GiB");
    facts.overcommit = {.mode = 0, .largest_mapping = 24ull << 30};
    expect(Verdict::kOk, "overcommit", facts, "larger than 24 GiB is refused");
}

TEST(Assess, SaysHowToGoBackFromAKilledJobsOvercommit) {
    auto facts = good_machine();
    facts.overcommit_to_restore = "0";
    expect(Verdict::kOk, "overcommit", facts, "sysctl vm.overcommit_memory=0");
}

TEST(FormatFinding, AlignsTheRemedy) {
    EXPECT_EQ(format_finding({Verdict::kOk, "kernel", "Linux 6.12", ""}),
              "ok    kernel         Linux 6.12\n");
    EXPECT_EQ(format_finding({Verdict::kNo, "io_uring", "off", "sysctl x=0"}),
              "no    io_uring       off\n                     type: sysctl x=0\n");
}

TEST(ProbeMachine, AgreesWithWhatIsKnownHere) {
    const auto facts = probe_machine();
    EXPECT_TRUE(parse_kernel_version(facts.kernel_release));
    EXPECT_GT(facts.memory.bytes, 0u);
    EXPECT_GE(facts.overcommit.largest_mapping, facts.memory.bytes);
}

}  // namespace
}  // namespace farswap::cli
