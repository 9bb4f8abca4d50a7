// How a job went: its figures over time, in a fixed number of samples whose spacing doubles when they are
// full. Pure; is told the time.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "pager/latencies.h"

namespace farswap {

/// The figures at the end of a stretch of time. Counts are since the job began; pages of kPageSize.
struct HistorySample {
    std::uint64_t at_ms = 0;      ///< when it ended, since the job began
    std::uint64_t ram_bytes = 0;  ///< the most in it
    std::uint64_t cap_bytes = 0, pager_bytes = 0;
    std::uint64_t far_pages = 0, dirty_frames = 0, clean_frames = 0;
    std::uint64_t faults = 0, first_touches = 0, second_chances = 0, cached = 0, stored = 0;
    std::uint64_t prefetched = 0, evicted = 0, written = 0, read = 0;
    std::array<std::uint64_t, kFaultKinds> waited_ns{};  ///< that faults of a kind took, all together
};

/// One thread. Allocates all that it ever has when it is made.
class History {
  public:
    static constexpr std::size_t kSamplesMax = 480;  ///< even
    /// Of the times of refaults in a stretch: four buckets for each doubling.
    static constexpr std::size_t kBuckets = 1 + LatencyHistogram::kDoublings * LatencyHistogram::kParts / 2;

    History();

    /// To be called at a steady pace; each call is one stretch at first. `latencies`: as they are by now.
    void add(const HistorySample& now, const FaultLatencies& latencies);
    /// What has not become a sample yet becomes one.
    void finish();

    std::size_t size() const noexcept { return samples_.size(); }
    const HistorySample& operator[](std::size_t i) const noexcept { return samples_[i]; }
    /// Of the refaults in the stretch that ends with sample `i`: nanoseconds that `share` of them did not
    /// exceed, at most a quarter too much; 0: there were none.
    std::uint64_t quantile(std::size_t i, double share) const noexcept;
    std::uint64_t refaults(std::size_t i) const noexcept;

  private:
    using Times = std::array<std::uint32_t, kBuckets>;
    static constexpr std::size_t coarse(std::size_t bucket) noexcept { return (bucket + 1) / 2; }
    void push();
    void halve();

    std::vector<HistorySample> samples_;
    std::vector<Times> times_;  ///< of each sample
    HistorySample pending_;
    Times pending_times_{};
    std::array<std::uint64_t, kBuckets> before_{};  ///< all refaults at the last add()
    std::uint32_t calls_ = 0, calls_each_ = 1;      ///< of add(), in pending_ and for a sample
};

}  // namespace farswap
