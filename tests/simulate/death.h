// The death of the pager: a thread of its is killed, its heir goes on at the same instruction with the same
// memory (decision 0025). What is lost with the process is lost here. Knows nothing of pages.
#pragma once

#include <cstdint>
#include <utility>

#include "options.h"
#include "random.h"

namespace farswap::simulate {

/// Chance of its own, so that runs without it are what they were.
class Death {
  public:
    explicit Death(const Options& options);

    /// A point at which the pager may be killed: before and in its system calls, where it reads the clock,
    /// and where it takes a number to seal under. True: it dies here. die() has to follow.
    bool is_due();
    /// What the others do until the heir goes on, and what the kernel ends.
    void die();
    void may_come() {
        if (is_due()) die();
    }
    /// As keeper::births().
    std::uint32_t births() const { return births_; }

    /// The last step that was made while there was no pager.
    std::uint64_t last_step() const;
    /// Pages that programs have taken while there was none, since this was asked for last.
    std::uint64_t take_growth() { return std::exchange(growth_, 0); }

    Random random;

  private:
    void plan_next();

    const bool has_any_;
    bool is_dead_ = false;
    std::uint64_t due_ = 0;           ///< steps of the world
    std::uint64_t points_to_go_ = 0;  ///< from then on
    std::uint64_t went_on_ = 0;       ///< step
    std::uint32_t births_ = 0;
    std::uint64_t growth_ = 0;  ///< pages
};

}  // namespace farswap::simulate
