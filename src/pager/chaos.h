// Chaos: pages leave at random places all the time, whatever the cap. A tool for tests of what only eviction
// at the wrong moment can break.
#pragma once

#include <cstdint>
#include <random>

#include "io/loop.h"
#include "pager/pager.h"

namespace farswap {

/// One thread: the loop's.
class Chaos {
  public:
    /// `rate`: pages a second.
    Chaos(io::Loop& loop, Pager& pager, std::uint32_t rate);
    ~Chaos();
    Chaos(const Chaos&) = delete;
    Chaos& operator=(const Chaos&) = delete;

    void start();

  private:
    void strike();

    io::Loop& loop_;
    Pager& pager_;
    std::uint32_t rate_;
    std::mt19937_64 random_;
    io::Timer timer_;
    io::Clock::time_point last_{};
    double owed_ = 0;  ///< pages
};

}  // namespace farswap
