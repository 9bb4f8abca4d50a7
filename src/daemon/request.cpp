#include "daemon/request.h"

#include <cstring>

namespace farswap::daemon {

using target::HelperRequest;
using target::HelperRequestKind;
using target::kUffdFeatures;

Result<HelperRequest> parse_request(std::span<const std::byte> bytes, int descriptors) {
    HelperRequest request;
    if (bytes.size() != sizeof request)
        return fail(EINVAL, "{} bytes are no request, which has {}", bytes.size(), sizeof request);
    std::memcpy(&request, bytes.data(), sizeof request);
    if (request.version != target::kHelperVersion)
        return fail(EPROTO, "a request of version {}, this farswapd speaks {}: install both from one release",
                    request.version, target::kHelperVersion);
    switch (request.kind) {
        case HelperRequestKind::kDevice:
            if (descriptors != 0) return fail(EINVAL, "a request for the device brings no descriptor");
            if (request.features != 0) return fail(EINVAL, "a request for the device names no features");
            return request;
        case HelperRequestKind::kEnable:
            if (descriptors != 1)
                return fail(EINVAL, "one userfaultfd is enabled at a time, and {} descriptors came",
                            descriptors);
            if (const auto others = request.features & ~kUffdFeatures; others != 0)
                return fail(EPERM, "the features {:#x} of userfaultfd are not handed out", others);
            if ((request.features & UFFD_FEATURE_EVENT_FORK) == 0)
                return fail(EINVAL, "without the fork event a userfaultfd needs no help");
            return request;
    }
    return fail(ENOSYS, "there is no request {}", static_cast<std::uint32_t>(request.kind));
}

}  // namespace farswap::daemon
