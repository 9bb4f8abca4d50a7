#include "daemon/share_request.h"

#include <algorithm>
#include <cstring>

namespace farswap::daemon {
namespace {

using cli::ShareRequest;
using cli::ShareRequestKind;

/// More than a machine has: sums of so many as there may be jobs do not overflow.
constexpr std::uint64_t kAmountMax = std::uint64_t{1} << 50;

}  // namespace

Result<ShareRequest> parse_share_request(std::span<const std::byte> bytes) {
    ShareRequest request;
    if (bytes.size() != sizeof request)
        return fail(EINVAL, "{} bytes are no request for a share, which has {}", bytes.size(),
                    sizeof request);
    std::memcpy(&request, bytes.data(), sizeof request);
    if (request.version != cli::kShareVersion)
        return fail(EPROTO, "a request of version {}, this farswapd speaks {}: install both from one release",
                    request.version, cli::kShareVersion);
    switch (request.kind) {
        case ShareRequestKind::kList:
            return request;
        case ShareRequestKind::kAsk:
        case ShareRequestKind::kReport:
            break;
        default:
            return fail(ENOSYS, "there is no request {} for shares",
                        static_cast<std::uint32_t>(request.kind));
    }
    for (const std::uint64_t amount : {request.cap, request.least, request.most, request.ram, request.far}) {
        if (amount > kAmountMax) return fail(EINVAL, "{} bytes are more than there is", amount);
    }
    if (request.least == 0 || request.most < request.least)
        return fail(EINVAL, "{} bytes at the least and {} at the most are no wish", request.least,
                    request.most);
    return request;
}

}  // namespace farswap::daemon
