// The table of runs in flight, and their memory; pins and unpins. Does not know what a run is for.
#include "swap/page_run.h"

#include <algorithm>

#include "base/assert.h"

namespace farswap {

PageRunTable::PageRunTable(std::uint32_t runs, std::uint32_t pages_max, std::uint32_t blocks_max)
    : size_(runs),
      runs_(std::make_unique<PageRun[]>(runs)),
      slots_(std::make_unique<SlotId[]>(std::size_t{runs} * pages_max)),
      frames_(std::make_unique<FrameIndex[]>(std::size_t{runs} * pages_max)),
      pages_(std::make_unique<page*[]>(std::size_t{runs} * std::max(blocks_max, pages_max))),
      segments_(std::make_unique<kvec[]>(std::max(blocks_max, pages_max))) {
    for (std::uint32_t i = 0; i < runs; ++i) {
        runs_[i].slots = &slots_[std::size_t{i} * pages_max];
        runs_[i].frames = &frames_[std::size_t{i} * pages_max];
        runs_[i].pages = &pages_[std::size_t{i} * std::max(blocks_max, pages_max)];
        runs_[i].next_idle = idle_;
        idle_ = &runs_[i];
    }
}

PageRun* PageRunTable::acquire() noexcept {
    PageRun* run = idle_;
    if (!run) return nullptr;
    idle_ = run->next_idle;
    run->next_idle = nullptr;
    run->failures = 0;
    run->opened = Opened::kNotTried;
    ++in_use_;
    return run;
}

void PageRunTable::release(PageRun& run) noexcept {
    FARSWAP_ASSERT(run.delivery.empty() && !run.submitted && run.pinned == 0);
    run.count = 0;
    run.next_idle = idle_;
    idle_ = &run;
    --in_use_;
}

void PageRunTable::prepare(PageRun& run, std::uint32_t op, std::uint32_t first_block, std::uint32_t blocks,
                           std::byte* memory) {
    FARSWAP_ASSERT(run.count > 0 && blocks > 0 && run.pinned == 0);
    run.first_block = first_block;
    run.since = io::Clock::now();
    for (std::uint32_t i = 0; i < blocks; ++i)
        segments_[i] = {memory + std::size_t{i} * kPageSize, kPageSize};
    const int into_memory = (op & WRITE) == 0;
    const int pinned = get_kernel_pages(segments_.get(), static_cast<int>(blocks), into_memory, run.pages);
    FARSWAP_ASSERT(pinned == static_cast<int>(blocks));
    run.pinned = blocks;

    Request& request = run.request;
    request.op = op;
    request.offset = block_offset(first_block);
    request.data = memory;
    request.length = blocks * kBlockBytes;
    request.pages = run.pages;
    request.page_count = blocks;
    request.avoid = 0;
    request.done = 0;
    request.owner = &run;
    run.retry.owner = &run;
}

void PageRunTable::pin_frames(PageRun& run, const SwapCache& cache) {
    unpin(run);
    for (std::uint32_t i = 0; i < run.count; ++i) segments_[i] = {cache.address(run.frames[i]), kPageSize};
    const int pinned = get_kernel_pages(segments_.get(), static_cast<int>(run.count), 0, run.pages);
    FARSWAP_ASSERT(pinned == static_cast<int>(run.count));
    run.pinned = run.count;
}

void PageRunTable::unpin(PageRun& run) noexcept {
    for (std::uint32_t i = 0; i < run.pinned; ++i) put_page(run.pages[i]);
    run.pinned = 0;
}

BufferSet::BufferSet(std::byte* memory, std::uint32_t count, std::uint32_t blocks)
    : memory_(memory),
      count_(count),
      blocks_(blocks),
      idle_(count),
      stack_(std::make_unique<std::byte*[]>(count)) {
    for (std::uint32_t i = 0; i < count; ++i) stack_[i] = memory + std::size_t{i} * blocks * kBlockBytes;
}

std::byte* BufferSet::take() noexcept {
    return idle_ == 0 ? nullptr : stack_[--idle_];
}

void BufferSet::give(std::byte* buffer) noexcept {
    FARSWAP_ASSERT(owns(buffer) && idle_ < count_);
    stack_[idle_++] = buffer;
}

}  // namespace farswap
