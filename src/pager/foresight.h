// Whether the neighbours of a page are wanted, in a walk that leaves pages out. Pure.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace farswap {

/// What is brought in for nothing takes the place of something else, and nothing tells whether it was used:
/// there are no accessed bits. So it is tried: now and then neighbours that would be brought in are not, and
/// those that are asked for after all are counted. Where less than half of them are, none are brought in,
/// until that changes: a database that scans a tree wants nearly all of them, a compiler hardly any. One for
/// each process.
class Foresight {
  public:
    /// A page that is outside is asked for.
    void asked_for(std::uint64_t address) noexcept {
        is_in_trial_ = false;
        for (Trial& trial : trials_) {
            if (address < trial.low || address >= trial.high) continue;
            trial.wanted++;
            is_in_trial_ = true;
        }
    }
    /// Whether the neighbours in [low, high), of which `pages` are outside, are to be brought in.
    bool is_worth_it(std::uint64_t low, std::uint64_t high, std::uint32_t pages) noexcept {
        if (is_in_trial_) return false;  // the rest of it is not asked for otherwise
        const bool worth_it = share_ * 2 >= kWhole;
        if (pages == 0 || ++since_trial_ < (worth_it ? kTrialEvery : kTrialEveryOfNone)) return worth_it;
        since_trial_ = 0;
        Trial& oldest = trials_[next_];
        next_ = (next_ + 1) % trials_.size();
        if (oldest.pages > 0) end(oldest);
        oldest = {low, high, pages, 0};
        return false;
    }

  private:
    /// Neighbours that were not brought in.
    struct Trial {
        std::uint64_t low = 0, high = 0;
        std::uint32_t pages = 0;
        std::uint32_t wanted = 0;
    };

    void end(const Trial& trial) noexcept {
        const std::uint32_t wanted = trial.wanted < trial.pages ? trial.wanted : trial.pages;
        share_ += (static_cast<std::int32_t>(kWhole * wanted / trial.pages) - share_) / kMemory;
    }

    static constexpr std::size_t kTrials = 16;
    static constexpr std::uint32_t kTrialEvery = 32;       ///< of what is brought in
    static constexpr std::uint32_t kTrialEveryOfNone = 8;  ///< of what is not
    static constexpr std::int32_t kWhole = 1 << 16;        ///< times 64 pages it fits
    static constexpr std::int32_t kMemory = 8;             ///< trials

    std::array<Trial, kTrials> trials_{};
    std::size_t next_ = 0;
    std::uint32_t since_trial_ = 0;
    bool is_in_trial_ = false;     ///< the page that was asked for last
    std::int32_t share_ = kWhole;  ///< of the neighbours that were wanted, as far as is known
};

}  // namespace farswap
