#include "target/uffd_source.h"

#include <fcntl.h>
#include <sys/ioctl.h>

#include "target/helper.h"
#include "target/helper_protocol.h"

namespace farswap::target {
namespace {

bool is_refusal(int code) {
    // Container engines' seccomp profiles answer either.
    return code == EPERM || code == ENOSYS;
}

}  // namespace

Result<MadeUffd> make_uffd(const MakeUffd& make) {
    Fd device(open("/dev/userfaultfd", O_RDWR | O_CLOEXEC));
    UffdMaker by = device ? UffdMaker::kDevice : UffdMaker::kSystemCall;
    auto uffd = make(device.get());
    if (uffd) return MadeUffd{std::move(*uffd), by};
    if (!is_refusal(uffd.error().code)) return std::unexpected(uffd.error());
    auto lent = helper_device();
    if (!lent && uffd.error().code == ENOSYS) return std::unexpected(uffd.error());
    if (!lent)
        return fail(EACCES,
                    "no right to a userfaultfd: allow /dev/userfaultfd, run farswap as root, or start the "
                    "helper farswapd ({})",
                    lent.error().message);
    uffd = make(lent->get());
    if (!uffd) return std::unexpected(uffd.error());
    return MadeUffd{std::move(*uffd), UffdMaker::kHelper};
}

Result<ForkEnabler> enable_uffd(int uffd) {
    uffdio_api api{};
    api.api = UFFD_API;
    api.features = kUffdFeatures;
    if (ioctl(uffd, UFFDIO_API, &api) == 0) return ForkEnabler::kOurselves;
    if (errno != EPERM)
        return fail_errno(errno,
                          "this kernel's userfaultfd lacks UFFDIO_MOVE: farswap needs Linux 6.8 or later");
    if (auto enabled = helper_enable(uffd, kUffdFeatures); !enabled)
        return fail(EACCES,
                    "no right to follow forks by userfaultfd: run farswap as root or with CAP_SYS_PTRACE, or "
                    "start the helper farswapd ({})",
                    enabled.error().message);
    return ForkEnabler::kHelper;
}

}  // namespace farswap::target
