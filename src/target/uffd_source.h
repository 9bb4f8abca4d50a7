// Where a program's userfaultfd and the right to its fork event come from: the device, the system call, our
// own capability, or farswapd. Blocking; for the injector's thread and for `farswap check`.
#pragma once

#include <functional>

#include "base/fd.h"
#include "base/result.h"

namespace farswap::target {

enum class UffdMaker { kNobody, kDevice, kSystemCall, kHelper };
enum class ForkEnabler { kNobody, kOurselves, kHelper };

/// Makes a userfaultfd by the descriptor of /dev/userfaultfd, or by the system call where that is -1.
using MakeUffd = std::function<Result<Fd>(int device)>;

struct MadeUffd {
    Fd fd;
    UffdMaker by = UffdMaker::kNobody;
};

/// Has a userfaultfd made by whatever this user may use; what makes it need not be this process. EACCES:
/// there is nothing, and the message says what could be granted; other errors are the maker's.
Result<MadeUffd> make_uffd(const MakeUffd& make);

/// The handshake of userfaultfd (UFFDIO_API(2const)) with every feature that we rely on. EACCES: no right to
/// the fork event, and the message says what could be granted; EINVAL: the kernel lacks a feature.
Result<ForkEnabler> enable_uffd(int uffd);

}  // namespace farswap::target
