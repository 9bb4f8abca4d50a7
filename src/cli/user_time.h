// How long a job's processes have been at their own work. Asks the kernel; knows no pages.
#pragma once

#include <sys/types.h>

#include <map>
#include <vector>

namespace farswap::cli {

/// User time of the processes that we have started, or that were found below them, and that have ended.
double children_user_s();

/// Of a job that runs.
class UserTime {
  public:
    /// These ran before they were the job's: what they have used until now does not count.
    void attached(const std::vector<pid_t>& processes);
    /// `processes`: those of the job now. Seconds; 0: not known, as with one that was attached to and has
    /// ended.
    double so_far(const std::vector<pid_t>& processes) const;

  private:
    std::map<pid_t, double> before_;
};

}  // namespace farswap::cli
