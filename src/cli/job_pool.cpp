#include "cli/job_pool.h"

#include <algorithm>
#include <cerrno>
#include <cstddef>

#include "cli/budget.h"
#include "farswap/request.h"

namespace farswap::cli {

Result<std::unique_ptr<Pool>> create_job_pool(std::uint64_t bytes, bool sealed) {
    auto pool = Pool::create({.frames = static_cast<std::size_t>(bytes / kPageSize),
                              .frames_ready = static_cast<std::size_t>(std::min(bytes, kPoolMin) / kPageSize),
                              .locked_least = sealed ? kPoolLeast / kPageSize : 0,
                              .lock_spare = kLockedBesidePool,
                              .children_have_it = false});
    if (pool) return pool;
    const auto& [code, message] = pool.error();
    if (code == EFBIG) return fail(EFBIG, "{}; raise the limit on the size of files (ulimit -f)", message);
    if (code == EPERM || code == ENOMEM)
        return fail(code, "{}, or let pages lie in the clear there, and on their store (--seal off)",
                    message);
    return pool;
}

}  // namespace farswap::cli
