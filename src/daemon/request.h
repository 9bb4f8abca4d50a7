// What was asked for: bytes from a stranger, read with suspicion. Without a system call.
#pragma once

#include <cstddef>
#include <span>

#include "base/result.h"
#include "target/helper_protocol.h"

namespace farswap::daemon {

/// The request in `bytes`, which came with so many descriptors; what it returns can be granted as it is.
/// EINVAL: no request; EPROTO: of another version; ENOSYS: of a kind that there is not; EPERM: for features
/// that are not handed out.
Result<target::HelperRequest> parse_request(std::span<const std::byte> bytes, int descriptors);

}  // namespace farswap::daemon
