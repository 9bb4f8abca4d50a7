// What is left to farswapd.
#include "daemon/confine.h"

#include <linux/capability.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

#include <array>

#include "daemon/client.h"
#include "daemon_fixture.h"

namespace farswap::daemon {
namespace {

TEST(Confine, OneCapabilityIsKept) {
    Child child([] {
        if (!keep_one_capability()) return 1;
        __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
        std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> data{};
        syscall(SYS_capget, &header, data.data());
        if (data[0].effective != CAP_TO_MASK(CAP_SYS_PTRACE) || data[0].permitted != data[0].effective ||
            data[0].inheritable != 0 || data[1].permitted != 0)
            return 2;
        for (unsigned long capability = 0; capability <= CAP_LAST_CAP; ++capability) {
            const bool bound = prctl(PR_CAPBSET_READ, capability) == 1;
            if (bound != (capability == CAP_SYS_PTRACE)) return 3;
        }
        return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 ? 0 : 4;
    });
    EXPECT_EQ(child.status(), 0);
}

TEST(Confine, WithoutTheCapabilityItSaysSo) {
    Child child([] {
        if (setresuid(kNobody, kNobody, kNobody) != 0) return 1;
        const auto kept = keep_one_capability();
        return !kept && kept.error().message.find("start it as root") != std::string::npos ? 0 : 2;
    });
    EXPECT_EQ(child.status(), 0);
}

/// Whether a call is refused: what it is given would be invalid, too, with another errno.
bool all_are_forbidden(pid_t parent) {
    iovec nothing{};
    int failures = 0;
    const auto refused = [&](long result) { failures += result == -1 && errno == EPERM ? 0 : 1; };
    refused(open("/dev/null", O_RDONLY));
    refused(ptrace(PTRACE_SEIZE, parent, nullptr, nullptr));
    refused(process_vm_readv(parent, &nothing, 1, &nothing, 1, 0));
    refused(syscall(SYS_pidfd_open, parent, 0));
    refused(syscall(SYS_execve, "/nowhere", nullptr, nullptr));
    refused(socket(AF_UNIX, SOCK_STREAM, 0));
    refused(kill(parent, 0));
    refused(ioctl(0, USERFAULTFD_IOC_NEW, 0));
    refused(ioctl(0, UFFDIO_COPY, nullptr));
    refused(fork());
    if (mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED)
        ++failures;
    return failures == 0;
}

TEST(Confine, NothingButAnsweringIsLeft) {
    const Pair pair;
    const target::HelperRequest request{.kind = target::HelperRequestKind::kEnable,
                                        .features = target::kUffdFeatures};
    const Fd uffd = new_userfaultfd();
    ASSERT_EQ(send_message(pair.client.get(), &request, sizeof request, uffd.get()), 0);
    const pid_t parent = getpid();
    Child child([&] {
        if (!keep_one_capability() || !forbid_other_calls()) return 1;
        if (!all_are_forbidden(parent)) return 2;
        serve(pair.server.get(), {}, Fd());
        return 0;
    });
    EXPECT_EQ(child.status(), 0);
    const auto answer = receive_answer(pair.client.get());
    ASSERT_TRUE(answer.came);
    EXPECT_EQ(answer.reply.error, 0) << answer.reply.text;
    EXPECT_TRUE(is_enabled(uffd));
}

}  // namespace
}  // namespace farswap::daemon
