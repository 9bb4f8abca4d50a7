// A process leaves the job: all that is outside comes back, and then nothing of us is left in it.
#include <algorithm>

#include "base/assert.h"
#include "pager/pager.h"

namespace farswap {
namespace {

constexpr std::size_t kReturningMax = 128;  // reads at a time; the others are for those who wait
constexpr int kReturnedAtOnce = 1024;       // pages, before others have their turn

}  // namespace

void Pager::leave(Process& process) {
    if (std::exchange(process.leaving, true)) return;
    process.returned_until = 0;
    arm_retry();
}

void Pager::stay(Process& process) {
    process.leaving = false;
}

/// As if each page that is outside were wanted, in the order of addresses.
void Pager::bring_back(Process& process) {
    if (process.gone || failed_) return;
    if (!learn_what_was_wiped(process)) return arm_retry();
    for (int i = 0; process.far_pages > 0 && i < kReturnedAtOnce; i++) {
        if (fetches_.size() - free_fetches_.size() >= kReturningMax) return;  // goes on when one has ended
        const auto is_outside = [](std::uint64_t, PageWord word) {
            return word.is_far() && !word.fetching();
        };
        const std::uint64_t end = PageTable::kAddressEnd;
        std::uint64_t next = process.pages->find(process.returned_until, end, is_outside);
        if (next == end) next = process.pages->find(0, process.returned_until, is_outside);
        if (next == process.returned_until && !is_outside(next, process.pages->get(next))) return;
        if (serve(process, next) != Served::kDone) {
            process.target->drain();
            break;
        }
        process.returned_until = next;
    }
    if (process.far_pages > 0) arm_retry();
}

bool Pager::may_release(const Process& process) const {
    const bool agent_rests = !process.target->has_agent() || process.target->agent_idle();
    return process.leaving && process.far_pages == 0 && agent_rests && process.moved.empty() &&
           process.staged == 0 && process.guards_wanted.empty() && !process.has_overtaking() &&
           process.ends_in_doubt.empty();
}

Pager::Leavings Pager::release(Process& process) {
    FARSWAP_ASSERT(may_release(process));
    // Closed with a page outside, it would read as zeros.
    const auto is_outside = [](std::uint64_t, PageWord word) { return word.is_far(); };
    FARSWAP_ASSERT(process.displaced.empty() &&
                   process.pages->find(0, PageTable::kAddressEnd, is_outside) == PageTable::kAddressEnd);
    Leavings left{0, {}};
    if (process.target->has_agent()) {
        const target::Agent& agent = process.target->agent();
        left = {agent.thread, {{agent.base, agent.base + agent.length}}};
        process.target->end_agent();
    }
    left.ranges.insert(left.ranges.end(), process.agents_sent_away.begin(), process.agents_sent_away.end());
    for (const std::uint64_t mark : process.inherited_marks) {
        // No range twice: the program's other threads run, and may have mapped what was free after the first
        // time.
        const auto holds_it = [mark](const target::AddressRange& one) {
            return mark >= one.start && mark < one.end;
        };
        if (std::ranges::any_of(process.agents_sent_away, holds_it)) continue;
        left.ranges.push_back({mark, mark + target::kCookiePages * kPageSize});
    }
    drop_all(process);
    process.gone = true;
    return left;
}

}  // namespace farswap
