// What a look at the job's processes has to read: looks come every millisecond near the cap, and hardly any
// of them finds anything new but memory. Pure.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace farswap {

/// The tree of processes is walked when something can have changed in it, and never for more than a share of
/// the time. One thread.
class WatchPolicy {
  public:
    using Time = std::chrono::steady_clock::time_point;
    using Duration = std::chrono::steady_clock::duration;

    struct Look {
        bool at_tree = false;        ///< who belongs to the job
        bool at_everything = false;  ///< what a cheap look at a process's memory does not show
    };

    /// What the look at `now` reads. `newest_task`: as target::read_newest_task(), read before the tree is.
    /// `is_unsettled`: something is awaited that only a walk of the tree would show.
    Look look(Time now, std::uint64_t newest_task, bool is_unsettled) {
        if (newest_task != newest_task_ || newest_task == 0) born_ = now;
        newest_task_ = newest_task;
        const bool has_news =
            is_unsettled || is_due_ || now - born_ < kBirth || now - walked_ >= kTreePeriodMax;
        const bool at_tree = has_news && now >= next_tree_;
        const bool at_everything = at_tree || now - everything_ >= kEverythingPeriod;
        if (at_everything) everything_ = now;
        return {at_tree, at_everything};
    }
    /// The tree was walked until `now`. `is_close`: a new program could soon fill what is left of the cap.
    void walked(Time now, std::chrono::nanoseconds cost, bool is_close) {
        walked_ = now;
        is_due_ = false;
        next_tree_ =
            now + std::max<Duration>(kTreePeriodMin, (is_close ? kCloseDutyCycle : kTreeDutyCycle) * cost);
        next_hurried_ = now + kHurriedDutyCycle * cost;
    }
    /// What the last look has found: the job's memory in bytes, and how many faults there have been.
    void found(std::uint64_t bytes, std::uint64_t faults) {
        const bool is_same = bytes == bytes_ && faults == faults_;
        same_ = is_same ? std::min(same_ + 1, kQuietLooks) : 0;
        bytes_ = bytes;
        faults_ = faults;
    }
    /// How long the next look may wait at the least: a program that has not moved for a while is at rest.
    Duration rest() const { return same_ == kQuietLooks ? kRest : Duration::zero(); }
    /// Somebody has ended, or is about to be missed by the tree.
    void someone_ended() { is_due_ = true; }
    /// The program has ended, and if it was the last of the job there is nothing to be waited for.
    void program_ended() {
        is_due_ = true;
        next_tree_ = {};
    }
    /// There is a child that the tree has not shown yet.
    void fork_announced() {
        is_due_ = true;
        next_tree_ = std::min(next_tree_, next_hurried_);
    }

  private:
    // The tree is walked for at most 1/50 of the time; 1/20 when a new program could soon fill what is left
    // of the cap; 1/4 while forked children are known that it has not shown yet.
    static constexpr int kTreeDutyCycle = 50, kCloseDutyCycle = 20, kHurriedDutyCycle = 4;
    static constexpr Duration kTreePeriodMin = std::chrono::milliseconds(1);
    static constexpr Duration kTreePeriodMax = std::chrono::milliseconds(100);
    // A task has its number some microseconds before its parent's list of children shows it; longer when it
    // is preempted there.
    static constexpr Duration kBirth = std::chrono::milliseconds(20);
    static constexpr Duration kEverythingPeriod = std::chrono::milliseconds(20);
    static constexpr std::uint32_t kQuietLooks = 64;
    static constexpr Duration kRest = std::chrono::milliseconds(4);

    std::uint64_t newest_task_ = 0;
    Time born_{};        ///< when the newest task was last seen to be another one
    Time walked_{};      ///< the tree, last
    Time everything_{};  ///< read last
    Time next_tree_{};
    Time next_hurried_{};
    bool is_due_ = true;
    std::uint64_t bytes_ = 0, faults_ = 0;
    std::uint32_t same_ = 0;  ///< looks
};

}  // namespace farswap
