// CPU time: what our own work costs, whoever else runs on this machine.
#pragma once

#include <chrono>
#include <ctime>

namespace farswap {

/// Of the calling thread (clock_gettime(2), CLOCK_THREAD_CPUTIME_ID): on a busy machine the clock on the wall
/// would count others' turns as our cost.
inline std::chrono::nanoseconds cpu_time() {
    timespec now{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
}

}  // namespace farswap
