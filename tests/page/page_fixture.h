// A small unlocked pool for the page tests, and short names for pinning in it.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "farswap/request.h"
#include "page/pool.h"

namespace farswap {

inline std::unique_ptr<Pool> make_pool(std::size_t frames) {
    auto pool = Pool::create({.frames = frames, .lock = false, .huge_pages = false});
    if (!pool) throw std::runtime_error(pool.error().message);
    return std::move(*pool);
}

inline unsigned long address_of(const void* pointer) {
    return reinterpret_cast<unsigned long>(pointer);
}

class PageTest : public testing::Test {
  protected:
    static constexpr std::size_t kFrames = 8;

    FrameIndex take() {
        const FrameRun run = pool->allocate_run(1);
        EXPECT_EQ(run.count, 1u);
        return run.first;
    }
    kvec segment(FrameIndex frame, std::size_t length = kPageSize) { return {pool->address(frame), length}; }
    page* pin(FrameIndex frame, bool for_writing) {
        page* pinned = nullptr;
        EXPECT_EQ(get_kernel_page(address_of(pool->address(frame)), for_writing, &pinned), 1);
        return pinned;
    }

    std::unique_ptr<Pool> pool = make_pool(kFrames);
};

}  // namespace farswap
