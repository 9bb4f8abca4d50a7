// What forks wipe (MADV_WIPEONFORK): a child has the mapping and finds zeros in it, so that nothing of it
// that is outside may come to the child.
//
// The calls are seen at the gate of madvise(2), before they are made, and what they are about is kept up to
// date by the events: it lies where the words of its pages lie, whatever the parent has done by the time when
// its FORK is read. Of what was there before its process was managed, smaps tells.
//
// Where there is no gate, the parent's smaps tells, read right after its FORK. If the parent has ended by
// then, or its mappings may have changed, the child's own does: the mark of a mapping (wf in VmFlags) is
// inherited. Until the child is identified, nothing of its parent's that is outside is given to it.
#include <sched.h>

#include <algorithm>

#include "base/append.h"
#include "base/log.h"
#include "pager/pager.h"
#include "target/proc.h"

namespace farswap {
namespace {

// From when a FORK is read until the thread that has forked has run, which ends what the kernel holds to be a
// change under way: it has been woken before smaps is read.
constexpr std::chrono::microseconds kForkerRuns{200};
constexpr int kLooksMax = 256;
// A child that may not be read is never identified, and its threads would wait for ever. Identified is one
// within some ms of a processor's time.
constexpr std::chrono::seconds kIdentifying{10};

}  // namespace

bool Pager::note_fork_advice(Process* process, const target::AddressRange& range, bool wipes) {
    if (wipes) forks_wipe_ = true;
    if (process == nullptr || process->gone || !forks_wipe_) return true;
    (void)register_mappings(*process, 0);
    if (process->gone) return true;
    if (process->target->refresh_due() || !process->wiped_is_whole || !(*process)->uffd().is_quiet())
        return false;
    process->wiped.remove(range.start, range.end);
    if (!wipes) return true;
    for (const target::AddressRange& part : (*process)->registered().overlap(range.start, range.end))
        process->wiped.add(part.start, part.end);
    return true;
}

void Pager::doubt_fork_advice(Process& process, const target::AddressRange& range) {
    process.wiped.remove(range.start, range.end);
    process.wiped_is_whole = false;
}

/// Notes what is wiped of what is registered, if nothing is on its way: smaps would be ahead of that.
void Pager::look_for_wiped(Process& process) {
    const auto ranges = target::fork_ranges(process->process(), process.cookie_base);
    if (!ranges || !process->uffd().is_quiet()) return;
    for (const target::AddressRange& range : ranges->wiped) {
        for (const target::AddressRange& part : process->registered().overlap(range.start, range.end))
            process.wiped.add(part.start, part.end);
    }
    process.wiped_is_whole = true;
}

/// What has stepped aside (displace()) has left its notes behind: it is looked for again.
void Pager::move_wiped(Process& process, std::uint64_t from, std::uint64_t to, std::uint64_t bytes) {
    std::vector<target::AddressRange> moving;
    for (const target::AddressRange& range : process.owed.missing(from, from + bytes)) {
        for (const target::AddressRange& part : process.wiped.overlap(range.start, range.end))
            moving.push_back(part);
    }
    if (!process.owed.overlap(from, from + bytes).empty()) process.wiped_is_whole = false;
    process.wiped.remove(to, to + bytes);
    for (const target::AddressRange& part : moving) {
        process.wiped.remove(part.start, part.end);
        process.wiped.add(to + (part.start - from), to + (part.end - from));
    }
    moving = process.perhaps_wiped.overlap(from, from + bytes);
    process.perhaps_wiped.remove(to, to + bytes);
    for (const target::AddressRange& part : moving)
        process.perhaps_wiped.add(to + (part.start - from), to + (part.end - from));
}

/// No fork that was overtaken needs what is outside of it.
void Pager::unmap_wiped(Process& process, std::uint64_t start, std::uint64_t end) {
    for (const target::AddressRange& range : process.wiped.overlap(start, end)) wipe(process, range);
    process.wiped.remove(start, end);
}

/// As far as the child has the mappings; the rest is looked for when it is.
void Pager::inherit_wiped(const Process& parent, Process& child) {
    for (const target::AddressRange& range : parent.wiped.ranges()) {
        for (const target::AddressRange& part : child->registered().overlap(range.start, range.end))
            child.wiped.add(part.start, part.end);
    }
}

void Pager::wipe(Process& process, const target::AddressRange& range) {
    process.pages->for_each(range.start, range.end, [&](std::uint64_t at, PageWord word) {
        let_go(process, at, word);
        process.pages->set(at, word.unmapped());
    });
}

/// What forks of the parent wipe, where nobody is told of the calls that say so: as its smaps has it now, its
/// FORK having been read. None if it has ended, or if its mappings may have changed since the fork.
std::optional<target::ForkRanges> Pager::ask_what_is_wiped(Process& parent) {
    (void)learn_what_was_wiped(parent);
    const bool has_nothing = parent.far_pages == 0 && !parent.has_overtaking() && parent.displaced.empty();
    if (!forks_may_wipe_ || has_nothing || parent->process() == 0) return std::nullopt;
    auto told = target::fork_ranges(parent->task(), parent.cookie_base);
    if (!told || parent.has_overtaking() || !parent.owed.empty()) return std::nullopt;
    const auto began = io::Clock::now();
    for (int looks = 0; looks < kLooksMax && !parent->has_undelivered(); looks++) {
        if (parent->is_up_to_date()) return std::move(*told);
        if (io::Clock::now() - began > kForkerRuns) break;
        sched_yield();
    }
    return std::nullopt;
}

/// What was `told` of the parent is wiped in the child. The rest has to wait: all of it, or what the parent
/// has not got any more, or what it has got itself by a fork of which that is not known yet.
void Pager::inherit_doubts_about_wiping(const Process& parent, Process& child,
                                        const std::optional<target::ForkRanges>& told) {
    for (const target::AddressRange& range : parent.perhaps_wiped.ranges())
        doubt_that_it_is_whole(child, range);
    if (child.far_pages == 0) return;
    if (!told) return doubt_that_it_is_whole(child, {0, PageTable::kAddressEnd});
    target::IntervalSet known;
    for (const target::AddressRange& range : told->inherited) known.add(range.start, range.end);
    for (const target::AddressRange& range : told->wiped) {
        known.add(range.start, range.end);
        wipe(child, range);
    }
    for (const target::AddressRange& range : known.missing(0, PageTable::kAddressEnd)) {
        child.pages->for_each(range.start, range.end, [&](std::uint64_t at, PageWord word) {
            if (word.is_far()) doubt_that_it_is_whole(child, {at, at + kPageSize});
        });
    }
}

void Pager::doubt_that_it_is_whole(Process& child, const target::AddressRange& range) {
    if (child.perhaps_wiped.empty()) child.perhaps_wiped_since = io::Clock::now();
    child.perhaps_wiped.add(range.start, range.end);
}

/// Whether it is known what the fork of a child has wiped. Its own mappings tell, if it is identified and
/// nothing is on its way: what it has moved is where its words are. What it has itself said since of what
/// forks are to wipe cannot be told from what was said before (decision 0010).
bool Pager::learn_what_was_wiped(Process& process) {
    if (process.perhaps_wiped.empty()) return true;
    if (process.gone || process->process() == 0 || !process->is_up_to_date()) return false;
    const MayAllocate mappings("what a fork has wiped is looked up");
    const auto ranges = target::fork_ranges(process->task(), process.cookie_base);
    if (!ranges || !process->is_up_to_date()) return false;
    for (const target::AddressRange& range : ranges->wiped) {
        for (const target::AddressRange& part : process.perhaps_wiped.overlap(range.start, range.end)) {
            process.pages->for_each(part.start, part.end, [&](std::uint64_t at, PageWord word) {
                if (!word.has_slot()) return;
                let_go(process, at, word);
                process.pages->set(at, word.unmapped());
            });
        }
    }
    end_waiting_for_wiped(process);
    return true;
}

/// Who waits asks again.
void Pager::end_waiting_for_wiped(Process& process) {
    process.perhaps_wiped.clear();
    for (const std::uint64_t page : process.awaited) process->uffd().wake(page, kPageSize);
    process.awaited.clear();
}

void Pager::look_again_for_wiped(Process& process) {
    if (process.gone || learn_what_was_wiped(process)) return;
    const bool is_late = io::Clock::now() - process.perhaps_wiped_since > kIdentifying;
    if (!is_late && !process.unmarkable) return;
    const MayAllocate message("once for a child that is never identified");
    log::warning("a child of process {} cannot be looked at: what its fork is to have wiped it may find",
                 process.forked_by);
    end_waiting_for_wiped(process);
}

bool Pager::waits_for_wiped(Process& process, std::uint64_t address) {
    if (process.perhaps_wiped.find(address) == nullptr || !process.pages->get(address).is_far()) return false;
    if (learn_what_was_wiped(process)) return false;
    append(process.awaited, address);
    return true;
}

bool Pager::awaits_a_child() const noexcept {
    return std::ranges::any_of(processes_, [](const auto& process) {
        return !process->gone && !process->perhaps_wiped.empty() && process->target->process() == 0;
    });
}

}  // namespace farswap
