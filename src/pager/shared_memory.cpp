#include "pager/shared_memory.h"

#include <algorithm>
#include <utility>

#include "base/cpu_time.h"
#include "pager/process.h"

namespace farswap {
namespace {

constexpr int kDutyCycle = 20;
constexpr std::chrono::milliseconds kPeriodMin{20};
// From a fork's copying of page tables to the child's place among the members, where nothing holds it up.
constexpr std::chrono::milliseconds kChildSettles{5};
// For the old memory of a process that executes another program: nothing tells when it is taken down.
constexpr std::chrono::milliseconds kTeardown{20};
// A shell's children that come and go do not spoil a measurement.
constexpr std::uint64_t kNegligible = 1 << 20;
// For 600 MiB that nobody shares, a measurement every three seconds.
constexpr std::uint32_t kRarityMax = 64;

std::uint64_t rss(const target::Member& member) {
    return member.use.rss_anon + member.use.rss_shmem;
}

/// Whether an event is still to be read, which may be a FORK: it is announced, and the userfaultfd not quiet,
/// from before the first page is shared on.
bool may_be_forking(const target::Member& member) {
    const auto* process = static_cast<const Process*>(member.owner);
    return process != nullptr && process->target && !process->target->uffd().is_quiet();
}

}  // namespace

void SharedMemory::update(bool may_measure, std::uint64_t writes_allowed, std::span<const pid_t> forkers) {
    writes_allowed_ = writes_allowed;
    cost_ = {};
    if (tree_.members().size() < 2) {
        shared_ = 0;
        believe_at_ = io::Clock::time_point::max();
        return;
    }
    if (shared_ > 0 || measured_ > 0) {
        const std::uint64_t copied_now = copied();
        take_off(copied_now - std::min(copied_now, copied_at_));
        copied_at_ = copied_now;
    }
    take_off_the_gone();
    forget_endings();
    note_endings();
    add_children();
    distrust_for_the_new();
    const auto now = io::Clock::now();
    if (now >= believe_at_) {
        shared_ = is_doubtful_ ? std::max(shared_, measured_) : measured_;
        believe_at_ = io::Clock::time_point::max();
    }
    // It would wait for the lock under which a fork copies the page tables.
    if (mapped_by_several() > rss_shmem_ + kNegligible) measure_soon();
    if (may_measure && now >= next_measure_ && !forks_now()) measure(forkers);
}

/// Bytes, since each process began. A copy is a minor fault, or an allowed write where copies wait for room:
/// that one is a major fault, as a page that was brought in is.
std::uint64_t SharedMemory::copied() const {
    return (tree_.minor_faults() + writes_allowed_) * kPageSize;
}

void SharedMemory::take_off(std::uint64_t bytes) {
    shared_ -= std::min(shared_, bytes);
    measured_ -= std::min(measured_, bytes);
}

/// A process that has ended or executed another program shares no more than it has. What leaves one that is
/// managed was copied before, and is taken off already.
void SharedMemory::take_off_the_gone() {
    for (const auto& member : tree_.members()) {
        const std::uint64_t left = member->alive && !member->leaves ? rss(*member) : 0;
        const std::uint64_t suspicious = member->owner == nullptr ? member->shares : member->shares / 2;
        if (left >= suspicious) continue;
        take_off(member->shares - left);
        member->shares = left;
    }
}

void SharedMemory::add_children() {
    const bool none_before = shared_ == 0 && measured_ == 0;
    for (const auto& member : tree_.members()) {
        auto* child = static_cast<Process*>(member->owner);
        if (child == nullptr || child->forked_by == 0 || !member->alive || member->leaves) continue;
        if (std::exchange(child->sharing_counted, true)) continue;
        measure_soon();
        member->shares = shared_by(*member, *child);
        shared_ += member->shares;
        measured_ += member->shares;
    }
    if (none_before && shared_ > 0) copied_at_ = copied();
}

/// A child that was being made when Pss was read has made all that it shares with those who were read seem to
/// belong to them in part only: by half a page at the most, where one had it.
/// These have appeared since; hidden_by_children() is about those that were known of.
void SharedMemory::distrust_for_the_new() {
    for (const auto& member : tree_.members()) {
        if (member->borrows_memory || std::exchange(member->in_pss, true)) continue;
        measured_ -= std::min(measured_, rss(*member) / 2);
        is_doubtful_ = true;
        measure_soon();
    }
}

/// What a child shares with whoever forked it, at the least.
std::uint64_t SharedMemory::shared_by(const target::Member& member, const Process& child) {
    const std::uint64_t forkers = target::read_minor_faults(child.forked_by);
    const std::uint64_t copied = target::read_minor_faults(member.process) + forkers -
                                 std::min(forkers, child.forkers_faults) + child.writes_allowed;
    const std::uint64_t own = child.filled + copied * kPageSize;
    return member.use.rss_anon - std::min(member.use.rss_anon, own);
}

std::uint64_t SharedMemory::mapped_by_several() const {
    std::uint64_t bytes = 0;
    for (const auto& member : tree_.members()) bytes += member->use.rss_shmem;
    return bytes;
}

/// Somebody may share what nobody did.
void SharedMemory::measure_soon() {
    rarity_ = 1;
    next_measure_ = std::min(next_measure_, measured_at_ + shortest_pause_);
}

bool SharedMemory::forks_now() const {
    return std::ranges::any_of(tree_.members(), [](const auto& member) { return may_be_forking(*member); });
}

/// By how much Pss may be too small for children that it was not asked for, see distrust_for_the_new(). Under
/// load a fork takes tens of milliseconds, and as long again until its child is found.
std::uint64_t SharedMemory::hidden_by_children(std::span<const pid_t> forkers) const {
    std::uint64_t hidden = 0;
    for (const auto& member : tree_.members()) {
        if (member->borrows_memory) continue;
        auto children = std::ranges::count(forkers, member->process);
        if (may_be_forking(*member)) children++;
        hidden += static_cast<std::uint64_t>(children) * (rss(*member) / 2);
    }
    return hidden;
}

/// Whoever has lost most of its memory may still be having it taken down: it is counted as a sharer, and
/// cannot be asked for its part.
void SharedMemory::note_endings() {
    std::uint64_t largest = 0;
    for (const auto& member : tree_.members()) largest = std::max(largest, rss(*member));
    for (const auto& member : tree_.members()) {
        if (member->borrows_memory) continue;
        const bool came_without = !member->in_pss && member->alive && !member->use.has_memory;
        const std::uint64_t had = came_without ? largest : std::exchange(member->had, rss(*member));
        if (rss(*member) < had / 2)
            endings_.push_back({member->process, had - rss(*member), io::Clock::now()});
    }
}

void SharedMemory::forget_endings() {
    const auto now = io::Clock::now();
    std::erase_if(endings_, [&](const Ending& ending) {
        const target::Member* member = tree_.find(ending.process);
        // A process reaches its end after that of its memory.
        if (member == nullptr || target::living_task(ending.process) == 0) return true;
        return member->use.has_memory && now - ending.since > kTeardown;
    });
}

std::uint64_t SharedMemory::hidden_by_endings() const {
    std::uint64_t hidden = 0;
    for (const Ending& ending : endings_) hidden += ending.bytes / 2;
    return hidden;
}

void SharedMemory::measure(std::span<const pid_t> forkers) {
    const auto began = cpu_time();
    tree_.measure_pss();
    // The Pss of one that ended meanwhile says nothing about the memory that it had, and the others' are too
    // small until that has been taken down. The next is better.
    if (!tree_.any_shrank(kNegligible)) take_pss(forkers);
    cost_ = cpu_time() - began;
    measured_at_ = io::Clock::now();
    shortest_pause_ = std::max<io::Clock::duration>(kDutyCycle * cost_, kPeriodMin);
    next_measure_ = measured_at_ + rarity_ * shortest_pause_;
}

void SharedMemory::take_pss(std::span<const pid_t> forkers) {
    measured_ = 0;
    rss_shmem_ = mapped_by_several();
    std::uint64_t sum = 0, largest = 0;
    for (const auto& member : tree_.members()) {
        member->shares = 0;
        member->in_pss = true;
        if (member->borrows_memory || !member->alive || member->leaves) continue;
        const std::uint64_t beyond = rss(*member) - std::min(rss(*member), member->pss);
        measured_ += beyond;
        sum += rss(*member);
        largest = std::max(largest, member->use.rss_anon);
        // Of what two share each is charged a half, and when one goes, the other's is shared no more.
        member->shares = std::min(rss(*member), 2 * beyond);
        if (auto* process = static_cast<Process*>(member->owner)) process->sharing_counted = true;
    }
    // No process counts any of its anonymous memory twice: what one shares with somebody outside the job is
    // not the job's to take off.
    measured_ = std::min(measured_, sum - largest);
    rarity_ = measured_ < kNegligible ? std::min(2 * rarity_, kRarityMax) : 1;
    const std::uint64_t hidden = hidden_by_children(forkers) + hidden_by_endings();
    is_doubtful_ = hidden > 0;
    measured_ -= std::min(measured_, hidden);
    copied_at_ = copied();
    believe_at_ = io::Clock::now() + kChildSettles;
}

}  // namespace farswap
