// Slots that stay with pages which are back inside: kept, compared when the page leaves again, given up when
// others need them more.
#include <algorithm>
#include <cerrno>

#include "base/log.h"
#include "pager/pager.h"

namespace farswap {
namespace {

constexpr std::uint32_t kSlotsAtOnce = 64;
constexpr std::uint32_t kLooksAtOnce = 1u << 18;  // page words: about a millisecond

}  // namespace

/// A far page has been filled. Its slot stays its own where it may serve once more.
void Pager::settle_back(Process& process, std::uint64_t address, PageWord word, bool is_hot) {
    if (!process.leaving && !is_hot && area_.worth_keeping(word.value())) {
        process.pages->set(address, word.brought_back_with_slot());
        process.kept_slots++;
        return;
    }
    process.pages->set(address, word.brought_back(is_hot));
    area_.put(word.value());
}

/// How many of the pages in the frames, from the first on, are not what a slot of theirs holds.
std::uint32_t Pager::changed_pages(Process& process, FrameRun frames, const MovedPage* pages) {
    std::uint32_t count = 0;
    for (; count < frames.count; count++) {
        const PageWord word = process.pages->get(pages[count].address);
        if (word.state() != PageState::kBack || !comparing_.now()) continue;
        const bool same = area_.holds(word.value(), frames.first + count);
        comparing_.tried(same);
        if (same) break;
    }
    return count;
}

/// Has kept slots given up before the stores are full.
void Pager::give_up_slots_in_time() {
    if (const std::uint32_t wanted = area_.slots_short()) give_up_slots(wanted, kLooksAtOnce);
}

/// Has up to `wanted` pages that are back forget their slots, in the order of addresses from where it ended
/// the last time, looking at no more than `looks_max`. How many have.
std::uint32_t Pager::give_up_slots(std::uint32_t wanted, std::uint32_t looks_max) {
    std::uint32_t looked_at = 0;
    std::uint32_t given_up = 0;
    // The first one, where it begins in the middle, has its second turn at the end.
    const std::size_t turns = processes_.empty() ? 0 : processes_.size() + 1;
    for (std::size_t turn = 0; turn < turns && given_up < wanted; turn++) {
        slots_hand_ %= processes_.size();
        Process& process = *processes_[slots_hand_];
        if (process.kept_slots == 0) {
            slots_hand_++;
            continue;
        }
        const std::uint64_t end = PageTable::kAddressEnd;
        process.slots_until =
            process.pages->find(process.slots_until, end, [&](std::uint64_t at, PageWord word) {
                if (given_up == wanted || looked_at++ == looks_max) return true;
                if (word.state() != PageState::kBack) return false;
                let_go(process, at, word);
                process.pages->set(at, word.without_slot());
                given_up++;
                return false;
            });
        if (process.slots_until != end) break;
        process.slots_until = 0;
        slots_hand_++;
    }
    return given_up;
}

/// No slot is left for what should leave: kept ones are given up, however many have to be looked at; with
/// none of them left either, the job waits or is stopped.
void Pager::swap_is_full() {
    if (give_up_slots(kSlotsAtOnce, ~0u) > 0) return arm_retry();
    full_ = true;
    const std::uint64_t mebibytes = area_.slots_capacity() * kPageSize >> 20;
    if (waits_when_full_) {
        if (!std::exchange(full_said_, true))
            log::warning("swap is full ({} MiB): the program waits for memory until some of it is freed",
                         mebibytes);
    } else if (!std::exchange(failed_, true)) {
        fatal(Error{ENOSPC,
                    fmt::format("swap is full ({} MiB): the program was stopped; give it a larger store "
                                "(?size=) or a second --swap",
                                mebibytes)});
    }
}

/// With swap full, a far page that comes back, although the cap is reached, frees the slot by which another
/// page can leave.
void Pager::trade_places() {
    const auto fault = std::ranges::find_if(waiting_, [this](const WaitingFault& waiting) {
        const PageWord word = waiting.process->pages->get(waiting.address);
        return !waiting.process->gone && word.is_far() && !word.fetching() && area_.count(word.value()) == 1;
    });
    if (fault == waiting_.end()) return;
    const WaitingFault chosen = *fault;
    waiting_.erase(fault);
    full_ = false;  // until the next page that should leave finds no slot
    budget_.allow_overdraft(true);
    const Served served = serve_again(chosen);
    budget_.allow_overdraft(false);
    if (served != Served::kDone) waiting_.push_back(chosen);
}

}  // namespace farswap
