// What the pager does for pages, so that a kill can be told by what it has interrupted. Marks only, which
// cost a few instructions each and change nothing. Knows of no layer.
#pragma once

#include <atomic>
#include <cstdint>

namespace farswap {

enum class Step : std::uint8_t {
    kElsewhere,
    kStaged,      ///< pages that a MOVE has taken are copied out of staging
    kSealing,     ///< a page's record is made for its store: compressed, encrypted
    kWriting,     ///< a write is handed to its store, or has ended and is noted
    kCommitting,  ///< the same of a flush
    kOpening,     ///< a record that has come back becomes a page
    kCopying,     ///< a page is put into the program's memory (UFFDIO_COPY)
};
inline constexpr unsigned kSteps = 7;

/// Of the process: in a pager one thread works on pages. In a line of its own, as that thread writes to it at
/// each step.
alignas(64) inline constinit std::atomic<Step> current_step{Step::kElsewhere};

/// While one lives, its step is the current one. They nest.
class [[nodiscard]] During {
  public:
    explicit During(Step step) noexcept : outer_(current_step.load(std::memory_order_relaxed)) {
        current_step.store(step, std::memory_order_relaxed);
    }
    ~During() { current_step.store(outer_, std::memory_order_relaxed); }
    During(const During&) = delete;
    During& operator=(const During&) = delete;

  private:
    Step outer_;
};

}  // namespace farswap
