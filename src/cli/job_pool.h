// The frames of a job: how many serve, and what is said when they cannot be had.
#pragma once

#include <cstdint>
#include <memory>

#include "base/result.h"
#include "page/pool.h"

namespace farswap::cli {

/// A pool of so many bytes, the first kPoolMin of which can be used at once. With `sealed` it has as many
/// frames as can be locked, as who has pages sealed does not want them in the kernel's own swap in the clear.
/// Children of this process do not have it. Errors are said with what to do.
Result<std::unique_ptr<Pool>> create_job_pool(std::uint64_t bytes, bool sealed);

}  // namespace farswap::cli
