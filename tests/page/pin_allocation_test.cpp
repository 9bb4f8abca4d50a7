// Pinning allocates nothing: counts what this thread takes from the heap.
#include <cstdlib>
#include <new>

#include "page_fixture.h"

namespace {
thread_local std::size_t allocations = 0;
}

// Not inlined: GCC would see free() get what operator new returned, and warn.
[[gnu::noinline]] void* operator new(std::size_t size) {
    ++allocations;
    if (void* memory = std::malloc(size)) return memory;
    throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
    std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept {
    std::free(memory);
}

namespace farswap {
namespace {

TEST_F(PageTest, PinningAndFramesAllocateNothing) {
    const kvec wrong{nullptr, 1};
    const std::size_t before = allocations;
    const FrameRun run = pool->allocate_run(kFrames);
    kvec segments[kFrames];
    for (std::size_t i = 0; i < kFrames; ++i)
        segments[i] = {pool->address(static_cast<FrameIndex>(i)), kPageSize};
    page* pages[kFrames];
    const int pinned = get_kernel_pages(segments, kFrames, 1, pages);
    for (page* page : pages) put_page(page);
    for (FrameIndex frame = 0; frame < run.count; ++frame) pool->release(frame);
    const int refused = get_kernel_pages(&wrong, 1, 0, pages);  // with its warning
    EXPECT_EQ(allocations - before, 0u);
    EXPECT_EQ(pinned, static_cast<int>(kFrames));
    EXPECT_EQ(refused, -EINVAL);

    ::operator delete(::operator new(1));
    EXPECT_GT(allocations, before) << "the counter counts";
}

}  // namespace
}  // namespace farswap
