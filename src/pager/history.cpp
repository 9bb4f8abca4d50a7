// Keeps the samples; see history.h.
#include "pager/history.h"

#include <algorithm>
#include <numeric>

namespace farswap {

History::History() {
    samples_.reserve(kSamplesMax);
    times_.reserve(kSamplesMax);
}

void History::add(const HistorySample& now, const FaultLatencies& latencies) {
    const auto most = calls_ > 0 ? std::max(pending_.ram_bytes, now.ram_bytes) : now.ram_bytes;
    pending_ = now;
    pending_.ram_bytes = most;
    std::array<std::uint64_t, kBuckets> sums{};
    for (const auto kind : {FaultKind::kCached, FaultKind::kStored, FaultKind::kRoom})
        for (std::size_t i = 0; i < LatencyHistogram::kBuckets; i++)
            sums[coarse(i)] += latencies[kind].in_bucket(i);
    for (std::size_t i = 0; i < kBuckets; i++)
        pending_times_[i] += static_cast<std::uint32_t>(sums[i] - before_[i]);
    before_ = sums;
    if (++calls_ < calls_each_) return;
    if (samples_.size() == kSamplesMax) halve();
    if (calls_ >= calls_each_) push();
}

void History::finish() {
    if (calls_ == 0) return;
    if (samples_.size() == kSamplesMax) halve();
    push();
}

void History::push() {
    samples_.push_back(pending_);
    times_.push_back(pending_times_);
    pending_times_ = {};
    calls_ = 0;
}

/// Two samples become one, and take twice as long from now on.
void History::halve() {
    for (std::size_t i = 0; i < kSamplesMax / 2; i++) {
        const auto earlier = samples_[i * 2].ram_bytes;
        samples_[i] = samples_[i * 2 + 1];
        samples_[i].ram_bytes = std::max(samples_[i].ram_bytes, earlier);
        for (std::size_t bucket = 0; bucket < kBuckets; bucket++)
            times_[i][bucket] = times_[i * 2][bucket] + times_[i * 2 + 1][bucket];
    }
    samples_.resize(kSamplesMax / 2);
    times_.resize(kSamplesMax / 2);
    calls_each_ *= 2;
}

std::uint64_t History::refaults(std::size_t i) const noexcept {
    return std::accumulate(times_[i].begin(), times_[i].end(), std::uint64_t{0});
}

std::uint64_t History::quantile(std::size_t i, double share) const noexcept {
    const std::uint64_t count = refaults(i);
    if (count == 0) return 0;
    const auto rank = std::clamp<std::uint64_t>(
        static_cast<std::uint64_t>(share * static_cast<double>(count) + 0.999999), 1, count);
    std::uint64_t seen = 0;
    for (std::size_t bucket = 0; bucket < kBuckets; bucket++) {
        seen += times_[i][bucket];
        if (seen >= rank) return LatencyHistogram::end_of(bucket * 2);
    }
    return 0;
}

}  // namespace farswap
