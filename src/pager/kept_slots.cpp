// Slots that stay with pages which are back inside: kept, compared when the page leaves again, given up when
// others need them more.
#include "pager/pager.h"

namespace farswap {
namespace {

constexpr std::uint32_t kLooksAtOnce = 1u << 18;  // page words: about a millisecond

}  // namespace

/// A far page has been filled. Its slot stays its own where it may serve once more: not when it had not been
/// written yet.
void Pager::settle_back(Process& process, std::uint64_t address, PageWord word, Warmth warmth) {
    if (!process.leaving && !area_.is_dirty(word.value()) && area_.worth_keeping(word.value())) {
        process.pages->set(address, word.brought_back_with_slot(warmth));
        process.kept_slots++;
        area_.note_back(word.value());
        return;
    }
    process.pages->set(address, word.brought_back(warmth));
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

}  // namespace farswap
