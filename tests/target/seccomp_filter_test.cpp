// What seccomp filters answer to the agent's calls: our machine against the kernel's, and whole programs.
#include "target/seccomp_filter.h"

#include <gtest/gtest.h>
#include <linux/audit.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>

#include "child.h"
#include "target/remote.h"

namespace farswap::target {
namespace {

using Filter = std::vector<sock_filter>;

constexpr __u32 kErrno = SECCOMP_RET_ERRNO | 7;
constexpr unsigned kNumber = offsetof(seccomp_data, nr), kFirst = offsetof(seccomp_data, args);

/// Answers `answer` to one system call, and allows all others.
Filter refusing(unsigned number, __u32 answer) {
    return {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kNumber), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
            BPF_STMT(BPF_RET | BPF_K, answer), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
}

seccomp_data call_of(int number, unsigned long first = 0) {
    seccomp_data call{};
    call.nr = number;
    call.arch = AUDIT_ARCH_X86_64;
    call.args[0] = first;
    return call;
}

TEST(SeccompFilter, AnswersAsItIsWritten) {
    const Filter filter = refusing(SYS_recvmsg, kErrno);
    EXPECT_EQ(run_filter(filter, call_of(SYS_recvmsg)), kErrno);
    EXPECT_EQ(run_filter(filter, call_of(SYS_sendmsg)), static_cast<__u32>(SECCOMP_RET_ALLOW));
}

TEST(SeccompFilter, CalculatesAndJumps) {
    // (first argument & 0xff00) >> 8, kept in memory and an index: 3 is refused, more than 5 kills.
    const Filter filter = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kFirst),
                           BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0xff00),
                           BPF_STMT(BPF_ALU | BPF_RSH | BPF_K, 8),
                           BPF_STMT(BPF_ST, 2),
                           BPF_STMT(BPF_MISC | BPF_TAX, 0),
                           BPF_STMT(BPF_LD | BPF_IMM, 5),
                           BPF_JUMP(BPF_JMP | BPF_JGE | BPF_X, 0, 1, 0),
                           BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
                           BPF_STMT(BPF_LD | BPF_MEM, 2),
                           BPF_STMT(BPF_JMP | BPF_JA, 1),
                           BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
                           BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 3, 0, 1),
                           BPF_STMT(BPF_RET | BPF_K, kErrno),
                           BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    EXPECT_EQ(run_filter(filter, call_of(1, 0x342)), kErrno);
    EXPECT_EQ(run_filter(filter, call_of(1, 0x242)), static_cast<__u32>(SECCOMP_RET_ALLOW));
    EXPECT_EQ(run_filter(filter, call_of(1, 0x642)), static_cast<__u32>(SECCOMP_RET_KILL_PROCESS));
}

TEST(SeccompFilter, WhatTheKernelWouldNotTakeRefuses) {
    const auto kill = static_cast<__u32>(SECCOMP_RET_KILL_PROCESS);
    EXPECT_EQ(run_filter({}, call_of(1)), kill);
    const Filter beyond = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, sizeof(seccomp_data)),
                           BPF_STMT(BPF_RET | BPF_A, 0)};
    EXPECT_EQ(run_filter(beyond, call_of(1)), kill);
    const Filter far = {BPF_STMT(BPF_JMP | BPF_JA, 1000), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    EXPECT_EQ(run_filter(far, call_of(1)), kill);
    const Filter divides = {BPF_STMT(BPF_ALU | BPF_DIV | BPF_X, 0),
                            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    EXPECT_EQ(run_filter(divides, call_of(1)), kill);
}

TEST(SeccompFilter, TheStrictestOfSeveralCounts) {
    const auto strictest = [](std::vector<Filter> filters) {
        return run_filters(filters, call_of(SYS_close));
    };
    const Filter allows = refusing(SYS_read, kErrno), errs = refusing(SYS_close, kErrno),
                 kills = refusing(SYS_close, SECCOMP_RET_KILL_THREAD);
    EXPECT_EQ(strictest({}), static_cast<__u32>(SECCOMP_RET_ALLOW));
    EXPECT_EQ(strictest({allows, errs}), kErrno);
    EXPECT_EQ(strictest({kills, errs, allows}), static_cast<__u32>(SECCOMP_RET_KILL_THREAD));
}

/// What check_seccomp() says of a child that has installed these filters.
Status check(const std::vector<Filter>& filters, bool behind_gate = false) {
    Shared<std::atomic<bool>> ready;
    const Child child([&] {
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        for (const Filter& filter : filters) {
            Filter code = filter;
            const sock_fprog program{static_cast<unsigned short>(code.size()), code.data()};
            if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) != 0) return 1;
        }
        *ready.get() = true;
        return pause();
    });
    if (!wait_until([&] { return ready->load(); })) return fail(EIO, "the child is not ready");
    auto task = RemoteTask::seize(child.process(), 10'000);
    if (!task) return std::unexpected(task.error());
    return check_seccomp(child.process(), behind_gate);
}

TEST(SeccompFilter, AProgramWhoseFiltersAllowTheAgentIsFit) {
    EXPECT_TRUE(check({}));
    EXPECT_TRUE(check({refusing(SYS_setresuid, kErrno)})) << "an agent that keeps its identity works, too";
    EXPECT_TRUE(check({refusing(SYS_ptrace, SECCOMP_RET_KILL_PROCESS), refusing(SYS_socket, kErrno)}));
}

TEST(SeccompFilter, AProgramWhoseFiltersDoNotIsRefusedByName) {
    const auto refused =
        check({refusing(SYS_ptrace, kErrno), refusing(SYS_recvmsg, SECCOMP_RET_KILL_PROCESS)});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, EACCES);
    EXPECT_NE(refused.error().message.find("recvmsg"), std::string::npos) << refused.error().message;
}

/// Without CAP_SYS_ADMIN, whom the kernel shows no filters.
TEST(SeccompFilter, AnOrdinaryUserKnowsTheGateByTheNumberOfFilters) {
    const auto is_fit = [](std::size_t filters, bool behind_gate) {
        return check(std::vector<Filter>(filters, refusing(SYS_ptrace, kErrno)), behind_gate).has_value();
    };
    Child user([&] {
        if (setresuid(65534, 65534, 65534) != 0 || prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) != 0) return 9;
        if (!is_fit(0, false) || is_fit(1, false)) return 1;
        if (!is_fit(0, true) || !is_fit(1, true)) return 2;
        return is_fit(2, true) ? 3 : 0;
    });
    EXPECT_EQ(user.join(), 0);
}

}  // namespace
}  // namespace farswap::target
