// What forks share: memory that the sum of the processes' RSS counts more than once.
#pragma once

#include <chrono>
#include <cstdint>
#include <span>
#include <vector>

#include "io/loop.h"
#include "target/process_tree.h"

namespace farswap {

struct Process;

/// Pss tells what is shared, but to read it walks all page tables: it is read for a twentieth of the time at
/// most, and ever more rarely where nothing is shared and nobody comes who could share. In between a forked
/// child is taken to share all that it did not get since, and whatever was copied, or belongs to a process
/// that is gone, is taken off: the estimate is never too high, so a job is never taken for smaller than it
/// is. One thread: the loop's.
class SharedMemory {
  public:
    explicit SharedMemory(target::ProcessTree& tree) : tree_(tree) {}

    /// To be called after each ProcessTree::measure(), when the members' owners (Process) are set, forked
    /// children's too. `may_measure`: whether Pss is worth its time. `writes_allowed`: as
    /// Pager::writes_allowed(). `forkers`: for each child whose FORK event was read and that no member is
    /// known to be, the process that forked it.
    void update(bool may_measure, std::uint64_t writes_allowed, std::span<const pid_t> forkers);
    /// Bytes that the sum of RSS counts more than once.
    std::uint64_t bytes() const noexcept { return shared_; }
    /// What the last update() cost by reading Pss.
    std::chrono::nanoseconds cost() const noexcept { return cost_; }
    /// How many times more rarely Pss is read than its cost calls for.
    std::uint32_t rarity() const noexcept { return rarity_; }

  private:
    std::uint64_t copied() const;
    void take_off(std::uint64_t bytes);
    void take_off_the_gone();
    void add_children();
    void distrust_for_the_new();
    void note_endings();
    void forget_endings();
    static std::uint64_t shared_by(const target::Member& member, const Process& child);
    bool forks_now() const;
    std::uint64_t mapped_by_several() const;
    void measure_soon();
    std::uint64_t hidden_by_children(std::span<const pid_t> forkers) const;
    std::uint64_t hidden_by_endings() const;
    void measure(std::span<const pid_t> forkers);
    void take_pss(std::span<const pid_t> forkers);

    /// An address space that may still be being taken down.
    struct Ending {
        pid_t process = 0;
        std::uint64_t bytes = 0;
        io::Clock::time_point since{};
    };

    target::ProcessTree& tree_;
    std::vector<Ending> endings_;
    std::uint64_t writes_allowed_ = 0;
    std::uint64_t shared_ = 0;
    /// What Pss said last, corrected in the same way as `shared_`, until it is known whether it may be
    /// believed.
    std::uint64_t measured_ = 0;
    io::Clock::time_point believe_at_ = io::Clock::time_point::max();
    bool is_doubtful_ = false;     ///< somebody who could not be seen shared memory when Pss was read
    std::uint64_t copied_at_ = 0;  ///< what copied() was when it was last taken off
    io::Clock::time_point measured_at_{}, next_measure_{};
    io::Clock::duration shortest_pause_{};
    std::uint32_t rarity_ = 1;     ///< the pause is so many times as long
    std::uint64_t rss_shmem_ = 0;  ///< at the last measurement
    std::chrono::nanoseconds cost_{};
};

}  // namespace farswap
