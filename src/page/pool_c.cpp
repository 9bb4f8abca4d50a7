// A pool for C: errno instead of Result, addresses instead of frame numbers. Knows nothing beyond Pool.
#include <cerrno>
#include <new>
#include <utility>

#include "base/assert.h"
#include "page/pool.h"

struct farswap_pool {
    std::unique_ptr<farswap::Pool> pool;
};

using farswap::FrameIndex;
using farswap::kNoFrame;
using farswap::Pool;

farswap_pool* farswap_pool_create(size_t frames, unsigned flags) try {
    if ((flags & ~(FARSWAP_POOL_LOCKED | FARSWAP_POOL_HUGE_PAGES)) != 0) {
        errno = EINVAL;
        return nullptr;
    }
    const bool lock = flags & FARSWAP_POOL_LOCKED;
    auto pool = Pool::create({.frames = frames,
                              .lock = lock,
                              .locked_least = lock ? frames : 0,
                              .huge_pages = (flags & FARSWAP_POOL_HUGE_PAGES) != 0});
    if (!pool) {
        errno = pool.error().code;
        return nullptr;
    }
    return new farswap_pool{std::move(*pool)};
} catch (const std::bad_alloc&) {
    errno = ENOMEM;
    return nullptr;
}

size_t farswap_pool_destroy(farswap_pool* pool) {
    if (!pool) return 0;
    const size_t pins = pool->pool->close();
    delete pool;
    return pins;
}

void* farswap_pool_alloc(farswap_pool* pool) {
    const farswap::FrameRun run = pool->pool->allocate_run(1);
    return run.count > 0 ? pool->pool->address(run.first) : nullptr;
}

void farswap_pool_free(farswap_pool* pool, void* frame) {
    const FrameIndex index = pool->pool->frame_of(frame);
    FARSWAP_ASSERT(index != kNoFrame && pool->pool->address(index) == frame);
    pool->pool->release(index);
}
