// Guards (MADV_GUARD_INSTALL): they drop the pages that they cover, and no event tells of it. The agent puts
// them in on the program's behalf, so that what was outside is forgotten exactly if they are there. Nor does
// a fill respect them: what may be guarded is left out of every run.
#include <cerrno>

#include "base/assert.h"
#include "pager/pager.h"

namespace farswap {

void Pager::install_guard(Process& process, GuardRequest request) {
    process.guards_wanted.push_back(std::move(request));
    start_guard(process);
}

void Pager::start_guard(Process& process) {
    if (process.gone || process.guards_wanted.empty()) return;
    if (!process.target->has_agent()) return give_up_guards(process);
    if (process.installs_guard || !process.target->agent_idle()) return;
    while (!process.guards_wanted.front().wanted()) {
        process.guards_wanted.pop_front();
        if (process.guards_wanted.empty()) return;
    }
    const target::AddressRange range = process.guards_wanted.front().range;
    process.pages->for_each(range.start, range.end,
                            [&](std::uint64_t at, PageWord word) { give_up_fetch(process, at, word); });
    agent_request& request = process.asked;
    request.op = AGENT_GUARD;
    request.count = 1;
    request.range[0] = {range.start, 0, range.end - range.start};
    process.guards.add(range.start, range.end);
    process.installs_guard = process.target->ask_agent(request);
}

void Pager::guard_installed(Process& process, int error) {
    // Who faulted before the guard was there is to fault again, and to be told by the kernel.
    process.target->drain();
    if (process.gone) return;
    const GuardRequest request = take_guard(process);
    // ENOMEM: there are holes in the range, and guards in the rest of it (mm/madvise.c).
    if (error == 0 || error == ENOMEM) forget_under(process, request.range);
    request.done(error);
}

void Pager::forget_under(Process& process, target::AddressRange guard) {
    const std::uint32_t now = tenths_now();
    process.pages->for_each(guard.start, guard.end, [&](std::uint64_t at, PageWord word) {
        let_go(process, at, word);
        process.pages->set(at, word.removal_announced(false, now));
    });
}

/// Takes the first request out; faults that waited for its end are made again.
GuardRequest Pager::take_guard(Process& process) {
    FARSWAP_ASSERT(!process.guards_wanted.empty());
    process.installs_guard = false;
    GuardRequest request = std::move(process.guards_wanted.front());
    process.guards_wanted.pop_front();
    const target::AddressRange range = request.range;
    waiting_.erase_if([&](const WaitingFault& fault) {
        return fault.process == &process && fault.address >= range.start && fault.address < range.end;
    });
    process->uffd().wake(range.start, range.end - range.start);
    return request;
}

/// The agent has ended alone: nobody can put guards in.
void Pager::give_up_guards(Process& process) {
    while (!process.guards_wanted.empty()) take_guard(process).done(EAGAIN);
}

/// Whether a guard is on its way to this page. A fault on any other proves that it has none, or none any
/// more.
bool Pager::awaits_guard(Process& process, std::uint64_t address) {
    if (process.guards.empty()) return false;
    if (process.installs_guard) {
        const target::AddressRange& range = process.guards_wanted.front().range;
        if (address >= range.start && address < range.end) return true;
    }
    process.guards.remove(address, address + kPageSize);
    return false;
}

/// Where a run of fills from `address` on has to end at the latest.
std::uint64_t Pager::next_guard(const Process& process, std::uint64_t address, std::uint64_t end) {
    if (process.guards.empty()) return end;
    const auto guarded = process.guards.overlap(address, end);
    return guarded.empty() ? end : guarded.front().start;
}

}  // namespace farswap
