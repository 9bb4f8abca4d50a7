// Notices a store that does not answer any more, says so, and says when a job has waited long enough. Knows
// names and times; nothing of what is asked of a store.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "swap/swap_area.h"

namespace farswap {

class OutageWatch {
  public:
    /// `max`: how long a job waits for a store; none: for ever.
    explicit OutageWatch(std::optional<std::chrono::seconds> max) : max_(max) {}

    /// `passed` is the time since the last call; it counts no more than kStepMax, so that a pager that was
    /// stopped does not take its own absence for the store's. Writes a line when an outage is noticed, at
    /// each kRepeat of it, and at its end. ETIMEDOUT once a store has been silent for `max`: the line that
    /// ends the job.
    Status update(std::chrono::nanoseconds passed, const std::vector<StoreWait>& waits);

    static constexpr std::chrono::seconds kNoticed{5}, kRepeat{60}, kStepMax{1};

  private:
    struct Outage {
        StoreWait wait;
        std::chrono::nanoseconds silent{};
        std::chrono::nanoseconds said{};  ///< `silent` when the last line was written; 0: none was
    };
    void note_end(const Outage& outage) const;
    void say(Outage& outage) const;

    const std::optional<std::chrono::seconds> max_;
    std::vector<Outage> outages_;
};

}  // namespace farswap
