// Whether the pages around one that is asked for are wanted, too, outside of walks. Pure.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "farswap/request.h"

namespace farswap {

/// Pages that are outside and in memory all the same, compressed or in the swap cache, cost a fault each,
/// which is several times what it takes to fill them in along with a neighbour. But nothing tells whether
/// what was filled in is used. So it is tried, as in Foresight: of some blocks the pages that would be filled
/// in are not, and those that are asked for before long are counted. One for each process; one thread.
class Surroundings {
  public:
    static constexpr std::uint32_t kPages = 16;  ///< of a block, which begins at a multiple of them

    static std::uint64_t block_of(std::uint64_t address) noexcept {
        return address / kBlockBytes * kBlockBytes;
    }
    static std::uint32_t index_of(std::uint64_t address) noexcept {
        return static_cast<std::uint32_t>(address / kPageSize % kPages);
    }

    /// `now`: as WorkingSet::now(), here and below.
    void asked_for(std::uint64_t address, std::uint8_t now) noexcept {
        Trial& trial = trial_of(block_of(address));
        const std::uint32_t bit = 1u << index_of(address);
        if (trial.block != block_of(address) || (trial.left_out & bit) == 0 || is_old(trial, now)) return;
        trial.left_out &= ~bit;
        trial.wanted++;
    }
    /// Whether those pages of the block of `address`, a bit each, are to be filled in.
    bool is_worth_it(std::uint64_t address, std::uint32_t pages, std::uint8_t now) noexcept {
        if (pages == 0) return false;
        Trial& trial = trial_of(block_of(address));
        if (trial.block == block_of(address) && !is_old(trial, now)) return false;
        const bool worth_it = share_ * kOneOf >= kWhole;
        if (++since_trial_ < (worth_it ? kTrialEvery : kTrialEveryOfNone)) return worth_it;
        since_trial_ = 0;
        if (trial.pages > 0) end(trial);
        trial = {block_of(address), pages, static_cast<std::uint32_t>(std::popcount(pages)), 0, now};
        return false;
    }

  private:
    static constexpr std::uint64_t kBlockBytes = std::uint64_t{kPages} * kPageSize;
    static constexpr std::size_t kTrials = 128;
    static constexpr std::uint32_t kTrialEvery = 32;        ///< of what is filled in
    static constexpr std::uint32_t kTrialEveryOfNone = 16;  ///< of what is not
    static constexpr std::int32_t kWhole = 1 << 16;
    static constexpr std::int32_t kOneOf = 2;    ///< it pays if one of so many is wanted
    static constexpr std::int32_t kMemory = 16;  ///< trials
    static constexpr std::uint8_t kTicks = 4;    ///< as long as half of what is inside may take to leave

    struct Trial {
        std::uint64_t block = 0;
        std::uint32_t left_out = 0;
        std::uint32_t pages = 0;
        std::uint32_t wanted = 0;
        std::uint8_t began = 0;
    };

    Trial& trial_of(std::uint64_t block) noexcept {
        return trials_[(block / kBlockBytes * 0x9E3779B97F4A7C15ull) >> 57];
    }
    static bool is_old(const Trial& trial, std::uint8_t now) noexcept {
        return static_cast<std::uint8_t>(now - trial.began) >= kTicks;
    }
    void end(const Trial& trial) noexcept {
        const auto wanted = static_cast<std::int32_t>(kWhole * std::uint64_t{trial.wanted} / trial.pages);
        share_ += (wanted - share_) / kMemory;
    }

    std::array<Trial, kTrials> trials_{};
    std::uint32_t since_trial_ = 0;
    std::int32_t share_ = 0;  ///< of the pages that were wanted, as far as is known
};

}  // namespace farswap
