// The table of runs in flight; pins and unpins. Does not know what a run is for.
#include "swap/page_run.h"

#include "base/assert.h"
#include "swap/record_layout.h"

namespace farswap {

// Records and pages have the same size, whether sealed or not.
static_assert(RecordLayout::kHeaderBytes == 0);

PageRunTable::PageRunTable(std::uint32_t runs, std::uint32_t pages_max, std::byte* buffers)
    : size_(runs),
      runs_(std::make_unique<PageRun[]>(runs)),
      pages_(std::make_unique<page*[]>(std::size_t{runs} * pages_max)),
      segments_(std::make_unique<kvec[]>(pages_max)) {
    for (std::uint32_t i = 0; i < runs; ++i) {
        runs_[i].pages = &pages_[std::size_t{i} * pages_max];
        if (buffers != nullptr) runs_[i].buffer = buffers + std::size_t{i} * pages_max * kPageSize;
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
    FARSWAP_ASSERT(run.delivery.empty() && !run.submitted);
    run.count = 0;
    run.next_idle = idle_;
    idle_ = &run;
    --in_use_;
}

void PageRunTable::prepare(PageRun& run, std::uint32_t op, SlotId slot, FrameIndex frame, std::uint32_t count,
                           Slots& slots) {
    const StorePart& part = slots.part_of(slot);
    FARSWAP_ASSERT(count > 0 && part.holds(slot + count - 1));
    run.slot = slot;
    run.frame = frame;
    run.count = count;
    run.since = io::Clock::now();
    std::byte* memory = run.buffer != nullptr ? run.buffer : slots.cache().address(frame);
    for (std::uint32_t i = 0; i < count; ++i) segments_[i] = {memory + std::size_t{i} * kPageSize, kPageSize};
    const int into_memory = (op & WRITE) == 0;
    const int pinned = get_kernel_pages(segments_.get(), static_cast<int>(count), into_memory, run.pages);
    FARSWAP_ASSERT(pinned == static_cast<int>(count));

    Request& request = run.request;
    request.op = op;
    request.offset = RecordLayout::offset(slot - part.base);
    request.data = memory;
    request.length = RecordLayout::length(count);
    request.pages = run.pages;
    request.page_count = count;
    request.avoid = 0;
    request.done = 0;
    request.owner = &run;
    run.retry.owner = &run;
}

void PageRunTable::unpin(PageRun& run) noexcept {
    for (std::uint32_t i = 0; i < run.count; ++i) put_page(run.pages[i]);
}

}  // namespace farswap
