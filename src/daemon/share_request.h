// What a job asks of the budget: bytes from a stranger, read with suspicion. Without a system call.
#pragma once

#include <cstddef>
#include <span>

#include "base/result.h"
#include "cli/share_protocol.h"

namespace farswap::daemon {

/// The request in `bytes`, whose amounts add up without overflow and whose wish is at least what it cannot do
/// without. EINVAL: no request; EPROTO: of another version; ENOSYS: of a kind that there is not.
Result<cli::ShareRequest> parse_share_request(std::span<const std::byte> bytes);

}  // namespace farswap::daemon
