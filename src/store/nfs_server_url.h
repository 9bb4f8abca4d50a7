// What an nfs: URL says of its server and of who asks. Knows the options; asks nobody.
#pragma once

#include "base/result.h"
#include "store/nfs_control.h"
#include "store/url.h"

namespace farswap::nfs {

/// EINVAL: an option that there is not, or that is wrong.
Result<Server> server_of(const Url& url);

}  // namespace farswap::nfs
