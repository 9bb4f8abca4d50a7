// Makes the pool's frames present when a job that grows may soon need them: one that fits under its cap has
// neither the time nor the memory to pay. Knows what is used, nothing of whose it is.
#pragma once

#include "io/loop.h"
#include "page/pool.h"
#include "pager/budget.h"

namespace farswap {

/// A MiB a millisecond, from when half of what is used before memory is registered is in use, until all
/// frames are there. What is there by then serves alone. The loop's thread.
class PoolWarmup {
  public:
    PoolWarmup(io::Loop& loop, Pool& pool, Budget& budget) noexcept;
    ~PoolWarmup();
    PoolWarmup(const PoolWarmup&) = delete;
    PoolWarmup& operator=(const PoolWarmup&) = delete;

    /// Whenever the budget has been measured.
    void look() noexcept;

    static constexpr std::uint32_t kAtOnce = (1u << 20) / kPageSize;  ///< frames

  private:
    void prepare_more() noexcept;

    io::Loop& loop_;
    Pool& pool_;
    Budget& budget_;
    io::Timer timer_;
    bool gave_up_ = false;
};

}  // namespace farswap
