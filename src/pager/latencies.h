// How long things took, in a fixed number of buckets: exact counts, times within an eighth. Pure; no clock.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace farswap {

/// Buckets whose width grows with the time, as those of HdrHistogram: eight for each doubling, from 256 ns to
/// 137 s; what took less is in the first, what took longer in the last one. One thread. Allocates nothing.
class LatencyHistogram {
  public:
    static constexpr std::size_t kParts = 8;       ///< buckets for each doubling
    static constexpr std::size_t kLeastBits = 8;   ///< 2^8 ns: all below is one bucket
    static constexpr std::size_t kDoublings = 29;  ///< up to 2^37 ns
    static constexpr std::size_t kBuckets = 1 + kDoublings * kParts;

    void add(std::uint64_t nanoseconds) noexcept {
        buckets_[bucket_of(nanoseconds)]++;
        count_++;
        sum_ += nanoseconds;
        largest_ = std::max(largest_, nanoseconds);
    }
    void add(const LatencyHistogram& other) noexcept {
        for (std::size_t i = 0; i < kBuckets; i++) buckets_[i] += other.buckets_[i];
        count_ += other.count_;
        sum_ += other.sum_;
        largest_ = std::max(largest_, other.largest_);
    }

    std::uint64_t count() const noexcept { return count_; }
    std::uint64_t sum() const noexcept { return sum_; }          ///< nanoseconds
    std::uint64_t largest() const noexcept { return largest_; }  ///< nanoseconds, exact
    std::uint64_t in_bucket(std::size_t bucket) const noexcept { return buckets_[bucket]; }

    /// How many took less than 2^bits ns; exact, for bits from kLeastBits to kLeastBits + kDoublings - 1.
    std::uint64_t below_power(std::size_t bits) const noexcept {
        std::uint64_t sum = 0;
        for (std::size_t i = 0; i < 1 + (bits - kLeastBits) * kParts; i++) sum += buckets_[i];
        return sum;
    }

    /// The time in nanoseconds that `share` (0 to 1) of them did not exceed, at most an eighth too much; 0
    /// when there are none.
    std::uint64_t quantile(double share) const noexcept {
        if (count_ == 0) return 0;
        const auto rank = std::clamp<std::uint64_t>(
            static_cast<std::uint64_t>(share * static_cast<double>(count_) + 0.999999), 1, count_);
        std::uint64_t seen = 0;
        for (std::size_t i = 0; i < kBuckets; i++) {
            seen += buckets_[i];
            if (seen >= rank) return std::min(end_of(i), largest_);
        }
        return largest_;
    }

    static constexpr std::size_t bucket_of(std::uint64_t nanoseconds) noexcept {
        if (nanoseconds < std::uint64_t{1} << kLeastBits) return 0;
        const auto bits = static_cast<std::size_t>(std::bit_width(nanoseconds)) - 1;
        const std::size_t part = (nanoseconds >> (bits - 3)) % kParts;
        return std::min(1 + (bits - kLeastBits) * kParts + part, kBuckets - 1);
    }
    /// Where a bucket ends: all in it took less, but for the last one.
    static constexpr std::uint64_t end_of(std::size_t bucket) noexcept {
        if (bucket == 0) return std::uint64_t{1} << kLeastBits;
        const std::size_t bits = kLeastBits + (bucket - 1) / kParts;
        return (kParts + (bucket - 1) % kParts + 1) << (bits - 3);
    }

  private:
    std::array<std::uint64_t, kBuckets> buckets_{};
    std::uint64_t count_ = 0, sum_ = 0, largest_ = 0;
};

/// What a fault waited for. Each is of one kind.
enum class FaultKind : std::uint8_t {
    kFirstTouch,  ///< a new page, or a copy that a fork or the zero page made necessary
    kCached,      ///< the page was in the pager's memory
    kStored,      ///< it was read from a store
    kRoom,        ///< any of these, but there was no room under the cap at first
};
inline constexpr std::size_t kFaultKinds = 4;
inline constexpr const char* kFaultKindNames[kFaultKinds] = {"first_touch", "cached", "stored",
                                                             "waited_for_room"};

/// How long faults took from when the pager had read of them until the page was there, by kind.
struct FaultLatencies {
    std::array<LatencyHistogram, kFaultKinds> kinds;

    LatencyHistogram& operator[](FaultKind kind) noexcept { return kinds[static_cast<std::size_t>(kind)]; }
    const LatencyHistogram& operator[](FaultKind kind) const noexcept {
        return kinds[static_cast<std::size_t>(kind)];
    }
    /// All kinds together.
    LatencyHistogram all() const noexcept {
        LatencyHistogram sum;
        for (const LatencyHistogram& kind : kinds) sum.add(kind);
        return sum;
    }
    /// Those on pages that had been there before.
    LatencyHistogram refaults() const noexcept {
        LatencyHistogram sum = (*this)[FaultKind::kCached];
        sum.add((*this)[FaultKind::kStored]);
        sum.add((*this)[FaultKind::kRoom]);
        return sum;
    }
};

}  // namespace farswap
