#include "pager/page_table.h"

namespace farswap {

Result<std::unique_ptr<PageTable>> PageTable::create() {
    void* memory =
        mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return fail_errno(errno, "cannot reserve addresses for a page table");
    madvise(memory, kBytes, MADV_NOHUGEPAGE);
    return std::unique_ptr<PageTable>(new PageTable(static_cast<std::byte*>(memory)));
}

PageTable::~PageTable() {
    munmap(memory_, kBytes);
}

std::uint32_t PageTable::take_block() noexcept {
    FARSWAP_ASSERT(blocks_used_ < kBlocks);
    return ++blocks_used_;
}

PageWord PageTable::get(std::uint64_t address) const noexcept {
    FARSWAP_ASSERT(address < kAddressEnd);
    const std::uint32_t* middle = middle_of(address);
    if (middle == nullptr) return {};
    const std::uint32_t leaf = middle[(address / kLeafSpan) % kFanOut];
    return leaf == 0 ? PageWord{} : words(leaf)[(address / kPageSize) % kLeafWords];
}

void PageTable::set(std::uint64_t address, PageWord word) noexcept {
    FARSWAP_ASSERT(address < kAddressEnd);
    auto& top = reinterpret_cast<std::uint32_t*>(memory_)[address / kMiddleSpan];
    if (top == 0) top = take_block();
    auto& leaf = reinterpret_cast<std::uint32_t*>(block(top))[(address / kLeafSpan) % kFanOut];
    if (leaf == 0) leaf = take_block();
    words(leaf)[(address / kPageSize) % kLeafWords] = word;
}

}  // namespace farswap
