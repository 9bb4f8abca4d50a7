// How fast a job would be with other caps, by one run of it: judges figures. Measures nothing, formats
// nothing.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "pager/job.h"

namespace farswap::cli {

/// What is known of a run, once it is over or so far.
struct SizeFacts {
    struct Waits {
        std::uint64_t count = 0;
        double seconds = 0;  ///< all together
    };
    double elapsed_s = 0;
    double user_s = 0;  ///< user time of the processes; 0: not known
    std::uint64_t ram_cap = 0, need_peak = 0, pages_evicted = 0;  ///< as in JobStats
    std::array<Waits, kFaultKinds> waits{};                       ///< for pages, by kind
};
SizeFacts size_facts_of(const JobStats& stats, double user_s);

struct SizePoint {
    std::uint64_t cap = 0;  ///< bytes
    double seconds = 0;     ///< that the job would take
    double misses = 0;      ///< pages that it would wait for
};

struct SizeEstimate {
    enum class Verdict {
        kNoMisses,  ///< next to no page was waited for: it had all that it works with
        kTooFew,    ///< too few to predict from
        kKnown,
    };
    Verdict verdict = Verdict::kNoMisses;
    std::uint64_t misses = 0;                    ///< pages that were waited for
    std::uint64_t followed = 0;                  ///< of these, those that the estimate is made of
    double elapsed_s = 0;                        ///< of this run
    double full_speed_s = 0;                     ///< without a cap
    std::uint64_t need = 0;                      ///< bytes: all that the job used, with the pager's least
    std::vector<SizePoint> curve{};              ///< by cap, from this run's to the need
    std::optional<std::uint64_t> nearly_full{};  ///< the least cap with which it is within 5% of full speed
    std::optional<std::uint64_t> half{};         ///< and with which it takes no more than twice as long
};

/// Fewer misses than that are too few: an error of a tenth by chance alone.
inline constexpr std::uint64_t kMissesLeast = 100;

SizeEstimate estimate_size(const SizeFacts& facts, const MissCurve& misses);

}  // namespace farswap::cli
