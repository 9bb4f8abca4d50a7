// What keeps the page tables as small as what they hold, off the ways of faults and of pages that leave.
#include <algorithm>
#include <array>
#include <cerrno>
#include <span>

#include "pager/pager.h"

namespace farswap {
namespace {

constexpr std::uint32_t kWalkEachTenths = 10;        // between the beginnings of two walks
constexpr std::uint32_t kWorkAtOnce = 1u << 16;      // looks at page words: some tenths of a millisecond
constexpr std::uint32_t kLooksForOneScan = 1u << 8;  // that take as long
constexpr std::uint64_t kScanBytes = std::uint64_t{2} << 20;

/// Tells of addresses in ascending order whether a page is there, as far as the kernel tells.
class PresentPages {
  public:
    PresentPages(const target::Target& target, std::uint32_t& work_left)
        : target_(target), work_left_(work_left) {}

    bool may_be_there(std::uint64_t page) {
        if (page >= known_until_) look(page);
        return std::ranges::any_of(
            std::span(ranges_).first(count_),
            [page](const target::AddressRange& range) { return page >= range.start && page < range.end; });
    }

  private:
    void look(std::uint64_t page) {
        const std::uint64_t end = (page | (kScanBytes - 1)) + 1;
        work_left_ -= std::min(work_left_, kLooksForOneScan);
        const auto scan = target_.scan_present(page, end, (end - page) / kPageSize, ranges_);
        const bool is_told = scan && scan->walk_end > page;
        known_until_ = is_told ? scan->walk_end : end;
        count_ = is_told ? scan->count : 1;
        if (!is_told) ranges_[0] = {page, end};
    }

    const target::Target& target_;
    std::uint32_t& work_left_;
    std::array<target::AddressRange, 64> ranges_{};
    std::size_t count_ = 0;
    std::uint64_t known_until_ = 0;
};

}  // namespace

void Pager::keep_up_tables() {
    if (!tables_) return;
    tables_->keep_up();
    if (tables_->is_short())
        stop_for(
            ENOMEM,
            "the page tables of the job take {} MiB, and the system gives no more addresses for them; the "
            "program was stopped; raise the limit on addresses (ulimit -v) or vm.overcommit_memory",
            tables_->blocks_in_use() * kPageSize >> 20);
}

/// The sweep ends doubts about pages that are there still, and a fault those about pages that are wanted
/// again. Others would keep their words, 4 KiB for each 2 MiB of addresses that a program has given up and
/// not unmapped.
void Pager::expire_doubts() {
    const std::uint32_t now = tenths_now();
    std::uint32_t work_left = kWorkAtOnce;
    for (const auto& process : processes_) {
        if (process->gone) continue;
        if (process->doubts_until == 0) {
            if (!process->has_doubts || now - process->doubts_walked < kWalkEachTenths) continue;
            process->has_doubts = false;
            process->doubts_walked = now;
        }
        PresentPages pages(*process->target, work_left);
        const auto look = [&](std::uint64_t at, PageWord word) {
            if (work_left == 0) return true;
            work_left--;
            if (word.state() != PageState::kDoubtful) return false;
            if (now - word.value() > kDoubtTenths || !pages.may_be_there(at))
                process->pages->set(at, word.doubt_expired());
            else
                process->has_doubts = true;
            return false;
        };
        process->doubts_until = process->pages->find(process->doubts_until, PageTable::kAddressEnd, look);
        if (process->doubts_until != PageTable::kAddressEnd) return;
        process->doubts_until = 0;
    }
}

}  // namespace farswap
