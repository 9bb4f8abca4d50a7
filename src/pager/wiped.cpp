// What forks wipe (MADV_WIPEONFORK): a child has the mapping and finds zeros in it, so that nothing of it
// that is outside may come to the child.
//
// The calls are seen at the gate of madvise(2), before they are made, and what they are about is kept up to
// date by the events: it lies where the words of its pages lie, whatever the parent has done by the time when
// its FORK is read. Of what was there before its process was managed, smaps tells.
#include "pager/pager.h"
#include "target/proc.h"

namespace farswap {

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

}  // namespace farswap
