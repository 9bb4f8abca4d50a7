// Pinning allocates nothing: counts what this thread takes from the heap.
#include <new>

#include "allocation_counter.h"
#include "page_fixture.h"

namespace farswap {
namespace {

TEST_F(PageTest, PinningAndFramesAllocateNothing) {
    const kvec wrong{nullptr, 1};
    const test::AllocationCounter counter;
    const FrameRun run = pool->allocate_run(kFrames);
    kvec segments[kFrames];
    for (std::size_t i = 0; i < kFrames; ++i)
        segments[i] = {pool->address(static_cast<FrameIndex>(i)), kPageSize};
    page* pages[kFrames];
    const int pinned = get_kernel_pages(segments, kFrames, 1, pages);
    for (page* page : pages) put_page(page);
    for (FrameIndex frame = 0; frame < run.count; ++frame) pool->release(frame);
    const int refused = get_kernel_pages(&wrong, 1, 0, pages);  // with its warning
    const std::size_t allocations = counter.allocations();
    EXPECT_EQ(pinned, static_cast<int>(kFrames));
    EXPECT_EQ(refused, -EINVAL);
    EXPECT_EQ(allocations, 0u);

    ::operator delete(::operator new(1));
    EXPECT_EQ(counter.allocations(), 1u) << "the counter counts";
}

}  // namespace
}  // namespace farswap
