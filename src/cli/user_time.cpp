// Adds up processor time; see user_time.h.
#include "cli/user_time.h"

#include <sys/resource.h>

#include <algorithm>

#include "target/proc.h"

namespace farswap::cli {

double children_user_s() {
    rusage usage{};
    ::getrusage(RUSAGE_CHILDREN, &usage);
    return static_cast<double>(usage.ru_utime.tv_sec) + static_cast<double>(usage.ru_utime.tv_usec) / 1e6;
}

void UserTime::attached(const std::vector<pid_t>& processes) {
    for (const pid_t process : processes) before_[process] = target::read_user_time(process);
}

double UserTime::so_far(const std::vector<pid_t>& processes) const {
    double sum = children_user_s();
    for (const pid_t process : processes) sum += target::read_user_time(process);
    for (const auto& [process, seconds] : before_) {
        if (std::ranges::find(processes, process) == processes.end()) return 0;
        sum -= seconds;
    }
    return std::max(sum, 0.0);
}

}  // namespace farswap::cli
