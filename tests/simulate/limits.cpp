// The cap of a simulated job: that what is in use stays below it and its slack, and that the job is given up
// only where nothing could leave.
#include <fmt/format.h>

#include <algorithm>

#include "job.h"

namespace farswap::simulate {
namespace {

// What may come between two looks: copies on write, memory that is not registered yet.
constexpr std::uint64_t kGrowthMax = 512 * kPageSize;
// As Job: longer than a page stays doubtful after an madvise(2).
constexpr std::chrono::seconds kCrowdedBeforeGivingUp{15};
// As Target: smaller mappings are not paged.
constexpr std::uint64_t kSmallestMapping = 8 * kPageSize;
constexpr std::uint64_t kIncompressible = 5;             // fill_page(): of each so many writes one
constexpr std::uint64_t kProgramsOwn = 0x100'0000'0000;  // below it lies what threads end with, which is kept
// Those that were let in right now have not been looked at.
constexpr std::uint64_t kLetInAtOnce = 64;

}  // namespace

/// What is in use stays below the cap and its slack. Nobody keeps programs from taking what is not registered
/// while there is no pager (decision 0025): that comes on top at the first look of its heir, and may only
/// become less from then on.
void SimulatedJob::check_ram() {
    const std::uint64_t used = (world->pages_in_use() + pool_->frames()) * kPageSize;
    const std::uint64_t most = budget_.hard_limit();
    ram_level_ = std::max(ram_level_, most) + world->death.take_growth() * kPageSize;
    if (used > ram_level_ + kGrowthMax)
        fail_run(fmt::format("{} KiB are in use, under a cap of {} and a slack of {}{}", used >> 10,
                             budget_.cap() >> 10, (most - budget_.cap()) >> 10,
                             ram_level_ == most ? ""
                                                : fmt::format(", and {} since a death of the pager",
                                                              (ram_level_ - most) >> 10)));
    ram_level_ = std::max(most, std::min(ram_level_, used));
}

/// As Job: a program that gets a page now and then lives no more than one that gets none. With mappings that
/// are too small to be paged, or no store for what does not compress, it is right to give up.
void SimulatedJob::give_up_if_crowded() {
    const auto now = io::Clock::now();
    const std::chrono::nanoseconds since =
        std::min<std::chrono::nanoseconds>(now - looked_at_, std::chrono::milliseconds(250));
    looked_at_ = now;
    crowded_for_ += pager_->is_crowded() ? since : -4 * since;
    crowded_for_ = std::max(crowded_for_, std::chrono::nanoseconds{});
    if (stopped_by_ || crowded_for_ < kCrowdedBeforeGivingUp) return;
    const std::uint64_t could_leave = pages_that_could_leave();
    if (could_leave > kLetInAtOnce)
        fail_run(fmt::format("the job is given up, as nothing could leave, and {} pages could", could_leave));
    trace("the job is given up: nothing can leave");
    stopped_by_ = Error{ENOMEM, "nothing can leave"};
    world->stopped = true;
    world->kill_all();
}

/// By the simulator's own lights: what is registered, large enough, not locked, not pinned, and compresses
/// where there is no store.
std::uint64_t SimulatedJob::pages_that_could_leave() const {
    std::uint64_t pages = 0;
    for (const auto& process : world->processes) {
        if (!process->alive) continue;
        const farswap::Process* owner = owner_of(*process);
        if (owner == nullptr || owner->gone || !owner->target->has_agent()) continue;
        Memory& memory = *process->memory;
        for (const auto& [at, entry] : memory.entries) {
            const Vma* vma = memory.find(at);
            if (entry.page == nullptr || entry.page->pins > 0 || vma == nullptr || vma->uffd == nullptr)
                continue;
            if (vma->agents || vma->start < kProgramsOwn || vma->locked ||
                vma->end - vma->start < kSmallestMapping)
                continue;
            if (area_->keeps_in_memory() && memory.version_at(at) % kIncompressible == 0) continue;
            ++pages;
        }
    }
    return pages;
}

}  // namespace farswap::simulate
