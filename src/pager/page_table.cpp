#include "pager/page_table.h"

#include "base/assert.h"

namespace farswap {

PageTable::~PageTable() {
    // Block after block, from each GiB's first word on: what is left of it goes with the last.
    for_each(0, kAddressEnd, [this](std::uint64_t at, PageWord) { clear(at); });
    FARSWAP_ASSERT(blocks() == 0);
}

PageWord PageTable::get(std::uint64_t address) const noexcept {
    FARSWAP_ASSERT(address < kAddressEnd);
    std::uint64_t span = 0;
    const PageWord* words = leaf_of(address, span);
    return words == nullptr ? PageWord{} : words[address / kPageSize % kFanOut];
}

void PageTable::set(std::uint64_t address, PageWord word) noexcept {
    FARSWAP_ASSERT(address < kAddressEnd);
    if (word.is_default()) return clear(address);
    Entry& upper = root_[address / kUpperSpan];
    (void)take_into(upper);
    Entry& middle = upper.entries()[address / kMiddleSpan % kFanOut];
    upper.add(take_into(middle));
    Entry& leaf = middle.entries()[address / kLeafSpan % kFanOut];
    middle.add(take_into(leaf));
    PageWord& place = leaf.words()[address / kPageSize % kFanOut];
    leaf.add(place.is_default());
    place = word;
}

/// Blocks are zeros again when they go, as each default word and each empty entry is zeros.
void PageTable::clear(std::uint64_t address) noexcept {
    Entry& upper = root_[address / kUpperSpan];
    if (!upper) return;
    Entry& middle = upper.entries()[address / kMiddleSpan % kFanOut];
    if (!middle) return;
    Entry& leaf = middle.entries()[address / kLeafSpan % kFanOut];
    if (!leaf) return;
    PageWord& place = leaf.words()[address / kPageSize % kFanOut];
    if (place.is_default()) return;
    place = {};
    if (!leaf.remove_one()) return;
    release(leaf);
    if (!middle.remove_one()) return;
    release(middle);
    if (upper.remove_one()) release(upper);
}

/// Whether it was empty.
bool PageTable::take_into(Entry& entry) noexcept {
    if (entry) return false;
    entry.point_to(memory_->take());
    taken_++;
    return true;
}

void PageTable::release(Entry& entry) noexcept {
    memory_->give(entry.block());
    entry = {};
    released_++;
}

}  // namespace farswap
