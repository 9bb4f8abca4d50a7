// The job lets its processes go while they run, as src/pager/departures.cpp does: what is outside comes back,
// and nothing of the pager's stays. The program goes on without, and still every byte that it reads is looked
// at.
#include <fmt/format.h>

#include <algorithm>

#include "job.h"

namespace farswap::simulate {

/// As Members::step_departures().
void SimulatedJob::step_departures() {
    // Not of the same round: the userfaultfd is closed when the pager has buried who was let go.
    std::erase_if(ejecting_, [this](const Ejection& ejection) { return eject(ejection); });
    for (std::size_t i = 0; i < world->processes.size(); ++i) {
        simulate::Process& process = *world->processes[i];
        if (!process.alive || left_.contains(process.id)) continue;
        if (std::ranges::any_of(ready_, [&](const Ready& ready) { return ready.process == process.id; }))
            continue;
        farswap::Process* owner = owner_of(process);
        if (owner == nullptr) {
            const Pager::Recognised recognised = pager_->recognise(process.id);
            if (recognised.child == nullptr) {
                if (recognised.certain && process.memory && process.memory->uffd == nullptr)
                    left_.insert(process.id);
                continue;
            }
            owners_[process.id] = owner = recognised.child;
        }
        if (owner->gone) continue;
        pager_->leave(*owner);
        if (!pager_->may_release(*owner)) continue;
        Pager::Leavings leavings = pager_->release(*owner);
        owners_.erase(process.id);
        left_.insert(process.id);
        trace(fmt::format("process {} has all its memory back", process.id));
        ejecting_.push_back({process.id, process.programs, std::move(leavings.ranges)});
    }
}

/// As the injector: when the agent has ended, its mappings go. False: not yet.
bool SimulatedJob::eject(const Ejection& ejection) {
    simulate::Process* process = world->find(ejection.process);
    if (!process->alive || process->programs != ejection.program) return true;
    if (std::ranges::any_of(process->threads, &Thread::is_agent)) return false;
    Memory& memory = *process->memory;
    for (const target::AddressRange& range : ejection.ranges) {
        memory.split(range.start);
        memory.split(range.end);
        memory.drop_range(range.start, range.end);
        std::erase_if(memory.vmas,
                      [&](const auto& one) { return one.first >= range.start && one.first < range.end; });
    }
    for (const auto& [start, vma] : memory.vmas) {
        // Known to stay: tests/README.md.
        if (vma.is_unknown && vma.uffd == nullptr) continue;
        if (vma.agents || vma.uffd != nullptr)
            fail_run(fmt::format("process {} was let go, and what lies at {:#x} is still {}", process->id,
                                 start, vma.agents ? "the agent's" : "registered"));
    }
    const auto is_protected = [](const auto& one) { return one.second.wp; };
    if (std::ranges::any_of(memory.entries, is_protected))
        fail_run(fmt::format("process {} was let go, and a page of it is protected", process->id));
    trace(fmt::format("process {} is as if it had never been managed", process->id));
    return true;
}

}  // namespace farswap::simulate
