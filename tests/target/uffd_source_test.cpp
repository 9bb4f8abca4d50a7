// Where a program's userfaultfd comes from: /dev/userfaultfd, as long as it is there, and else the system
// call.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <cerrno>
#include <cstddef>

#include "agent_fixture.h"
#include "base/fd.h"

namespace farswap::target {
namespace {

/// A step: from here on userfaultfd(2) fails with EPERM, as the default profiles of container runtimes have
/// it. What it gives is the errno of a try. The agent, a thread of the same program, inherits the filter.
int forbid_the_system_call(Arena&) {
    sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_userfaultfd, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    sock_fprog filter{static_cast<unsigned short>(std::size(program)), program};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0)
        return 0;
    return syscall(SYS_userfaultfd, O_CLOEXEC) < 0 ? errno : 0;
}

Result<Agent> inject_into(const Puppet& puppet) {
    auto task = RemoteTask::seize(puppet.process(), 30'000);
    if (!task) return std::unexpected(task.error());
    return inject(*task, {.staging_pages = 4});
}

TEST(UffdSource, TheDeviceServesWhereTheSystemCallIsForbidden) {
    ASSERT_TRUE(Fd(open("/dev/userfaultfd", O_RDWR | O_CLOEXEC)))
        << "this kernel, or its /dev, has no device";
    Puppet puppet({forbid_the_system_call});
    puppet.go();
    ASSERT_TRUE(wait_until([&] { return puppet.done() == 1; }));
    ASSERT_EQ(puppet.result(), EPERM);
    const auto agent = inject_into(puppet);
    EXPECT_TRUE(agent) << agent.error().message;
}

/// An empty /dev, for this process and its children alone.
bool hide_devices() {
    return unshare(CLONE_NEWNS) == 0 && mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
           mount("none", "/dev", "tmpfs", 0, nullptr) == 0 && access("/dev/userfaultfd", F_OK) != 0;
}

TEST(UffdSourceDeathTest, TheSystemCallServesWhereThereIsNoDevice) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    const auto serve = [] {
        if (!hide_devices()) std::_Exit(2);
        int status = 1;
        {
            Puppet puppet({});
            const auto agent = inject_into(puppet);
            if (agent)
                status = 0;
            else
                std::fputs(agent.error().message.c_str(), stderr);
        }
        std::_Exit(status);
    };
    EXPECT_EXIT(serve(), testing::ExitedWithCode(0), "");
}

TEST(UffdSourceDeathTest, WithNeitherTheRefusalSaysWhatIsMissing) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    const auto refuse = [] {
        if (!hide_devices()) std::_Exit(2);
        int status = 1;
        {
            Puppet puppet({forbid_the_system_call});
            puppet.go();
            if (!wait_until([&] { return puppet.done() == 1; })) std::_Exit(3);
            const auto agent = inject_into(puppet);
            if (!agent && agent.error().code == EACCES) status = 0;
            if (!agent) std::fputs(agent.error().message.c_str(), stderr);
        }
        std::_Exit(status);
    };
    EXPECT_EXIT(refuse(), testing::ExitedWithCode(0), "no right to a userfaultfd: allow /dev/userfaultfd");
}

}  // namespace
}  // namespace farswap::target
