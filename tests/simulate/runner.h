// Runs seeds, each in a process of its own, and makes what fails smaller. Knows options and exit statuses;
// nothing of what happens in a run.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "options.h"

namespace farswap::simulate {

struct Campaign {
    Options first;                 ///< its seed is the first
    std::uint64_t seeds = 0;       ///< so many; 0: as many as the time allows
    std::chrono::seconds time{0};  ///< 0: no limit
    unsigned jobs = 1;             ///< processes at a time
    bool shrinks = true;
};

/// 0: nothing was found, else 1, and the command that shows it again was printed.
int run_campaign(const Campaign& campaign);

/// The run itself, in this process; does not return if it fails.
void run_seed(const Options& options);

/// The command line that repeats the run.
std::string command_of(const Options& options);

}  // namespace farswap::simulate
