// Judges a run; see size_estimate.h.
#include "cli/size_estimate.h"

#include <algorithm>

namespace farswap::cli {

namespace {

constexpr double kNanoseconds = 1e9;
constexpr int kPoints = 24;
constexpr double kNearly = 1.05, kTwice = 2;
constexpr double kWaitsMost = 0.98;  // of a run
// What paging costs besides the waits that the pager sees: a thread that stops and gets a core again, pages
// that are taken from a program that runs. Seconds each, at the most: twice what was measured on two cores
// that were busy.
constexpr double kFaultMost = 80e-6, kDepartureMost = 36e-6;
constexpr double kFreshPage = 0.7e-6;  // seconds that the kernel takes for a new page of a program without us

/// What the job waited for, in seconds, by what would change it.
struct Waits {
    double first = 0, cached = 0, stored = 0, room = 0;
    double departures = 0;  ///< for pages that left
    double all() const { return first + cached + stored + room + departures; }
};

/// The waits that the pager has seen, and what it has not: all time in which the program neither worked nor
/// waited for a page, within reason, as a program may also wait for other things. Several threads can wait at
/// one time; then it is not more than there was time.
Waits waits_of(const SizeFacts& facts) {
    SizeFacts::Waits all;
    for (const auto& one : facts.waits) {
        all.count += one.count;
        all.seconds += one.seconds;
    }
    const double seen = all.seconds;
    const double scale = std::min(1.0, facts.elapsed_s * kWaitsMost / std::max(seen, 1e-9));
    const double work = facts.user_s + static_cast<double>(facts.need_peak) / kPageSize * kFreshPage;
    const double faults_most = static_cast<double>(all.count) * kFaultMost;
    const double departures_most = static_cast<double>(facts.pages_evicted) * kDepartureMost;
    const double unseen_most = std::max(faults_most + departures_most, 1e-9);
    const double idle = std::max(facts.elapsed_s - seen * scale - work, 0.0);
    const double part = std::min(facts.user_s > 0 ? idle / unseen_most : 0.5, 1.0);
    const auto seconds = [&](FaultKind kind) {
        const auto& times = facts.waits[static_cast<std::size_t>(kind)];
        return times.seconds * scale + static_cast<double>(times.count) * kFaultMost * part;
    };
    return {.first = seconds(FaultKind::kFirstTouch),
            .cached = seconds(FaultKind::kCached),
            .stored = seconds(FaultKind::kStored),
            .room = seconds(FaultKind::kRoom),
            .departures = departures_most * part};
}

}  // namespace

SizeFacts size_facts_of(const JobStats& stats, double user_s) {
    SizeFacts facts{.elapsed_s = stats.elapsed_s,
                    .user_s = user_s,
                    .ram_cap = stats.ram_cap,
                    .need_peak = stats.need_peak,
                    .pages_evicted = stats.pages_evicted};
    for (std::size_t kind = 0; kind < kFaultKinds; kind++) {
        const LatencyHistogram& times = stats.latencies.kinds[kind];
        facts.waits[kind] = {times.count(), static_cast<double>(times.sum()) / kNanoseconds};
    }
    return facts;
}

SizeEstimate estimate_size(const SizeFacts& facts, const MissCurve& misses) {
    using Back = MissCurve::Back;
    SizeEstimate estimate{.misses = misses.came_back(Back::kCached) + misses.came_back(Back::kStored),
                          .followed = misses.misses_followed(),
                          .elapsed_s = facts.elapsed_s,
                          .full_speed_s = facts.elapsed_s,
                          .need = MissCurve::cap_for(facts.need_peak)};
    const Waits waits = waits_of(facts);
    estimate.full_speed_s = std::max(facts.elapsed_s - waits.all(), facts.elapsed_s * (1 - kWaitsMost));
    if (estimate.followed < kMissesLeast) {
        const bool was_slowed = waits.all() > (kNearly - 1) * estimate.full_speed_s;
        estimate.verdict = was_slowed ? SizeEstimate::Verdict::kTooFew : SizeEstimate::Verdict::kNoMisses;
        return estimate;
    }
    estimate.verdict = SizeEstimate::Verdict::kKnown;
    const auto need = static_cast<double>(estimate.need);
    const auto least = std::min(static_cast<double>(facts.ram_cap), need);
    const auto at = [&](std::uint64_t cap) {
        const auto share = misses.predict(cap);
        const double cached = share.backs[static_cast<std::size_t>(Back::kCached)];
        const double stored = share.backs[static_cast<std::size_t>(Back::kStored)];
        const double first =
            std::clamp((need - static_cast<double>(cap)) / std::max(need - least, 1.0), 0.0, 1.0);
        const double wait = waits.first * first + waits.cached * cached + waits.stored * stored +
                            (waits.room + waits.departures) * share.departures;
        return SizePoint{.cap = cap,
                         .seconds = estimate.full_speed_s + wait,
                         .misses = cached * static_cast<double>(misses.came_back(Back::kCached)) +
                                   stored * static_cast<double>(misses.came_back(Back::kStored))};
    };
    for (int i = 0; i <= kPoints; i++)
        estimate.curve.push_back(at(static_cast<std::uint64_t>(least + (need - least) * i / kPoints)));
    // More memory makes nothing slower, whatever the figures say.
    for (std::size_t i = estimate.curve.size() - 1; i-- > 0;)
        estimate.curve[i].seconds = std::max(estimate.curve[i].seconds, estimate.curve[i + 1].seconds);
    const auto least_within = [&](double times) -> std::optional<std::uint64_t> {
        const auto point = std::ranges::find_if(
            estimate.curve, [&](const SizePoint& p) { return p.seconds <= times * estimate.full_speed_s; });
        if (point == estimate.curve.end()) return {};
        return point->cap;
    };
    estimate.nearly_full = least_within(kNearly);
    estimate.half = least_within(kTwice);
    return estimate;
}

}  // namespace farswap::cli
