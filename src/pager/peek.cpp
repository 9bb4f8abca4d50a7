// Reads of what is outside that bring nothing in. The caller has the process hold still first: from then on
// pages may come in, but none goes out.
#include "pager/peek.h"

#include <algorithm>
#include <cstring>

#include "base/assert.h"
#include "base/no_allocation.h"
#include "pager/pager.h"

namespace farswap {
namespace {

constexpr std::size_t kRangesMax = 256;
constexpr std::uint64_t kLookedAtMax = std::uint64_t{1} << 18;  // pages: about a millisecond

/// Adds a page behind all others; false when there is no place for one more range.
bool append_page(std::vector<target::AddressRange>& ranges, std::uint64_t page) {
    if (!ranges.empty() && ranges.back().end == page) {
        ranges.back().end += kPageSize;
        return true;
    }
    if (ranges.size() == kRangesMax) return false;
    ranges.push_back({page, page + kPageSize});
    return true;
}

}  // namespace

void Pager::release_hold(Process& process) {
    if (process.holds > 0) process.holds--;
}

OutsideRanges Pager::outside(const Process& process, std::uint64_t start, std::uint64_t end) const {
    OutsideRanges found;
    std::uint64_t looked_at = 0;
    found.until = process.pages->find(start, end, [&](std::uint64_t page, PageWord word) {
        return word.is_far() && (looked_at++ == kLookedAtMax || !append_page(found.ranges, page));
    });
    // What a MOVE may have taken has no slot yet.
    for (std::uint32_t i = 0; process.target->is_moving() && i < process.asked.count; i++) {
        const agent_range& range = process.asked.range[i];
        const target::AddressRange part{std::max<std::uint64_t>(range.src, start),
                                        std::min<std::uint64_t>(range.src + range.len, found.until)};
        if (part.start < part.end) found.ranges.push_back(part);
    }
    std::ranges::sort(found.ranges, {}, &target::AddressRange::start);
    return found;
}

void Pager::peek(const Process& process, std::unique_ptr<Peek> peek) {
    std::erase_if(peeks_, [](const auto& one) { return one->waiting == 0; });
    FARSWAP_ASSERT(!peek->pages.empty() && peek->pages.size() <= Peek::kPagesMax);
    peek->content.assign(peek->pages.size() * kPageSize, std::byte{});
    Peek& started = *peeks_.emplace_back(std::move(peek));
    started.waiting = 1;  // ours, until all have begun
    for (std::size_t i = 0; i < started.pages.size(); i++) peek_page(process, started, i);
    peek_ended(started);
}

void Pager::peek_page(const Process& process, Peek& peek, std::size_t index) {
    const std::uint64_t address = peek.address + index * kPageSize;
    std::byte* into = peek.content.data() + index * kPageSize;
    Peek::Page& page = peek.pages[index];
    const PageWord word = process.pages->get(address);
    if (!word.is_far()) {
        page.is_outside = peek_staging(process, address, into);
        return;
    }
    page.is_outside = true;
    if (const std::byte* content = area_.lookup(word.value())) {
        std::memcpy(into, content, kPageSize);
        return;
    }
    area_.get(word.value());  // whatever becomes of the process meanwhile
    peek.waiting++;
    page.fetch = {.slot = word.value(),
                  .window = {word.value(), static_cast<std::uint32_t>(peek.pages.size() - index)},
                  .ready = [](SlotFetch& fetch, const std::byte* content,
                              int error) { static_cast<Pager*>(fetch.owner)->peeked(fetch, content, error); },
                  .owner = this};
    area_.fetch(page.fetch);
}

void Pager::peeked(SlotFetch& fetch, const std::byte* content, int error) {
    for (const auto& peek : peeks_) {
        const auto page =
            std::ranges::find_if(peek->pages, [&](const auto& one) { return &one.fetch == &fetch; });
        if (page == peek->pages.end()) continue;
        const auto index = static_cast<std::size_t>(page - peek->pages.begin());
        if (content != nullptr) {
            std::memcpy(peek->content.data() + index * kPageSize, content, kPageSize);
        } else if (peek->error == 0) {
            peek->error = error;
            peek->failed_at = peek->address + index * kPageSize;
        }
        area_.put(fetch.slot);
        peek_ended(*peek);
        return;
    }
    FARSWAP_ASSERT(false);
}

void Pager::peek_ended(Peek& peek) {
    const MayAllocate answer("a debugger is answered");
    if (--peek.waiting == 0 && peek.done) peek.done(peek);
}

void Pager::cancel_peeks() {
    for (const auto& peek : peeks_) {
        for (Peek::Page& page : peek->pages) {
            if (page.fetch.list == nullptr) continue;
            area_.cancel_fetch(page.fetch);
            area_.put(page.fetch.slot);
        }
    }
    peeks_.clear();
}

/// A page that a MOVE has taken and that is not in the swap area yet: true, and its content. Of a process
/// that is being dumped the reply may never come, as its agent is held: then the page tables tell. What is
/// gone at its source lies in staging if it was ever there.
bool Pager::peek_staging(const Process& process, std::uint64_t address, std::byte* into) {
    if (!process.target->is_moving()) return false;
    for (std::uint32_t i = 0; i < process.asked.count; i++) {
        const agent_range& range = process.asked.range[i];
        if (address < range.src || address - range.src >= range.len) continue;
        const std::uint64_t staged = range.dst + (address - range.src);
        return process.target->count_absent(address, 1) == 1 &&
               process.target->count_absent(staged, 1) == 0 &&
               process.target->read_memory(staged, into, kPageSize) == kPageSize;
    }
    return false;
}

}  // namespace farswap
