#include "memory.h"

#include <algorithm>
#include <cstring>

#include "base/assert.h"

namespace farswap::simulate {
namespace {

bool is_on(const std::vector<AddressRange>& list, std::uint64_t start, std::uint64_t end) {
    return std::ranges::any_of(list,
                               [&](const AddressRange& one) { return one.start < end && start < one.end; });
}

}  // namespace

void fill_page(std::byte* page, std::uint64_t version) {
    if (version == 0) {
        std::memset(page, 0, kPageSize);
        return;
    }
    for (std::uint64_t i = 0; i < kPageSize / 8; ++i) {
        const std::uint64_t plain = version * 0x9e3779b97f4a7c15u + i;
        // One of five does not compress.
        const std::uint64_t word = version % 5 == 0 ? (plain ^ plain >> 29) * 0xbf58476d1ce4e5b9u : plain;
        std::memcpy(page + i * 8, &word, 8);
    }
}

bool page_holds(const std::byte* page, std::uint64_t version) {
    std::array<std::byte, kPageSize> expected;
    fill_page(expected.data(), version);
    return std::memcmp(page, expected.data(), kPageSize) == 0;
}

Vma* Memory::find(std::uint64_t address) {
    auto next = vmas.upper_bound(address);
    if (next == vmas.begin()) return nullptr;
    Vma& vma = std::prev(next)->second;
    return address < vma.end ? &vma : nullptr;
}

void Memory::split(std::uint64_t address) {
    Vma* vma = find(address);
    if (vma == nullptr || vma->start == address) return;
    Vma behind = *vma;
    behind.start = address;
    vma->end = address;
    vmas.emplace(address, behind);
}

bool Memory::is_free(std::uint64_t start, std::uint64_t end) const {
    const auto next = vmas.lower_bound(start);
    if (next != vmas.end() && next->second.start < end) return false;
    return next == vmas.begin() || std::prev(next)->second.end <= start;
}

bool Memory::is_claimed(std::uint64_t start, std::uint64_t end) const {
    return is_on(claimed, start, end);
}

bool Memory::is_leaving(std::uint64_t start, std::uint64_t end) const {
    return is_on(leaving, start, end);
}

bool Memory::is_removing(std::uint64_t address) const {
    return std::ranges::any_of(
        removing, [&](const AddressRange& one) { return address >= one.start && address < one.end; });
}

std::uint64_t Memory::version_at(std::uint64_t address) const {
    const auto found = expected.find(address);
    return found == expected.end() ? 0 : found->second;
}

void Memory::drop(std::map<std::uint64_t, Entry>::iterator entry) {
    if (Page* page = entry->second.page) {
        FARSWAP_ASSERT(page->maps > 0);
        --page->maps;
        release(page);
    }
    entries.erase(entry);
}

void Memory::drop_range(std::uint64_t start, std::uint64_t end) {
    for (auto entry = entries.lower_bound(start); entry != entries.end() && entry->first < end;)
        drop(entry++);
}

double Memory::pages_used() const {
    double pages = 0;
    for (const auto& [address, entry] : entries)
        if (entry.page != nullptr) pages += 1.0 / entry.page->maps;
    return pages;
}

std::uint64_t Memory::pages_present() const {
    return static_cast<std::uint64_t>(
        std::ranges::count_if(entries, [](const auto& one) { return one.second.page != nullptr; }));
}

void release(Page* page) {
    if (page->maps == 0 && page->pins == 0) delete page;
}

void remove_range(std::vector<AddressRange>& ranges, AddressRange range) {
    const auto found = std::ranges::find_if(
        ranges, [&](const AddressRange& one) { return one.start == range.start && one.end == range.end; });
    if (found != ranges.end()) ranges.erase(found);
}

}  // namespace farswap::simulate
