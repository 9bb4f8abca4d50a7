// How much memory compressed pages are worth. Pure arithmetic on what is found there and what is not: no
// pages, no clock.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>

#include "farswap/request.h"

namespace farswap {

/// A page's memory given to the tier leaves the program one page less, which is found in the tier then (a
/// fault without a read, for which another page leaves), and keeps as many pages from the store as fit,
/// compressed, into a page, less one. What the first would cost is told by how often pages are found that
/// have just come into the tier, what the second would save by how often those are found that are about to
/// leave it.
///
/// Nothing is learnt from a tier that everything passes through unused. Then only a sample of the pages is
/// let in, which stays for so much longer: what a larger tier would hold shows in a small one.
///
/// Bytes; one thread.
class TierShare {
  public:
    explicit TierShare(std::uint64_t most) noexcept : most_(most), limit_(most / 4) {}

    /// What records may take now.
    std::uint64_t limit() const noexcept { return limit_; }
    std::uint64_t most() const noexcept { return most_; }
    void set_most(std::uint64_t most) noexcept {
        most_ = most;
        limit_ = std::clamp(limit_, least(), most_);
    }

    /// Whether the next page is to be let in.
    bool admits() noexcept { return !sampling_ || ++offered_ / kGroup % kSample == 0; }
    bool is_sampling() const noexcept { return sampling_; }

    void added(std::uint32_t record_bytes) noexcept {
        ++added_;
        ratio_ += (static_cast<double>(kPageSize) / record_bytes - ratio_) / 1024;
        if (added_ >= kAddsMax) judge();
    }
    /// A page was found: so many came after it, of the `all` that came after the oldest one.
    void found(std::uint32_t age, std::uint32_t all) noexcept {
        const std::uint64_t part = std::uint64_t{age} * kParts / std::max(all, 1u);
        ++found_[std::min<std::uint64_t>(part, kParts - 1)];
        if (++answered_ >= kWindow) judge();
    }
    /// A page had to be read from a store.
    void missed() noexcept {
        if (++answered_ >= kWindow) judge();
    }
    /// How long a read that somebody waited for has taken.
    void read_took(std::chrono::nanoseconds time) noexcept {
        const double us = std::chrono::duration<double, std::micro>(time).count();
        read_us_ += (std::min(us, kReadMaxUs) - read_us_) / 256;
    }

    /// What a fault costs that needs no read.
    void fault_costs(std::chrono::nanoseconds time) noexcept {
        fault_us_ = std::chrono::duration<double, std::micro>(time).count();
    }

  private:
    static constexpr std::uint32_t kParts = 4;
    static constexpr std::uint32_t kWindow = 1024;   ///< pages found or read before it is judged
    static constexpr std::uint32_t kAddsMax = 8192;  ///< ... or pages that came
    static constexpr std::uint32_t kFew = 16;        ///< found: too few to judge by
    static constexpr std::uint32_t kSample = 8;      ///< one group of so many is let in
    static constexpr std::uint32_t kGroup = 64;      ///< pages, which leave together
    static constexpr std::uint32_t kStep = 8;        ///< shares change by an eighth
    static constexpr double kReadMaxUs = 100000;

    std::uint64_t least() const noexcept { return most_ / 32; }
    void grow() noexcept { limit_ = std::min(limit_ + std::max(limit_ / kStep, kPageSize), most_); }
    void shrink() noexcept { limit_ = std::max(limit_ - limit_ / kStep, std::min(least(), limit_)); }

    void judge() noexcept {
        std::uint32_t found = 0;
        for (const std::uint32_t part : found_) found += part;
        const double gain = (ratio_ - 1) * found_[kParts - 1] * read_us_;
        const double cost = found_[0] * fault_us_;
        if (found < kFew) {
            if (sampling_) shrink();
            sampling_ = true;
        } else if (sampling_) {
            if (found * kSample >= added_) limit_ == most_ ? void(sampling_ = false) : grow();
        } else if (gain > cost * 1.25) {
            grow();
        } else if (gain < cost * 0.8) {
            shrink();
        }
        found_ = {};
        answered_ = added_ = 0;
    }

    std::uint64_t most_;
    std::uint64_t limit_;
    bool sampling_ = false;
    std::uint32_t offered_ = 0;
    std::uint32_t answered_ = 0;
    std::uint32_t added_ = 0;
    std::array<std::uint32_t, kParts> found_{};  ///< by age, the newest first
    double ratio_ = 2;                           ///< bytes of pages to bytes of their records
    double read_us_ = 200;
    double fault_us_ = 30;
};

}  // namespace farswap
