// Records how a job goes, for its report: samples its figures, and walks its page tables a little at a time.
// Only reads what the pager has.
#pragma once

#include <memory>
#include <vector>

#include "io/loop.h"
#include "pager/history.h"
#include "pager/regions.h"

namespace farswap {

struct JobStats;
struct Process;

/// What is recorded of a job. Belongs to whoever started it, and takes its memory before.
struct Recording {
    History history;
    Regions regions;
};

/// One thread: the loop's.
class Recorder {
  public:
    explicit Recorder(Recording& recording) : recording_(recording) {}

    /// To be called at a steady pace. Takes less than half a millisecond, but a few times in the first
    /// seconds and every two later, when it reads /proc/PID/maps.
    void look(const JobStats& stats, const std::vector<std::unique_ptr<Process>>& processes);
    /// The job has ended.
    void finish(const JobStats& stats);

  private:
    void sample(const JobStats& stats);
    void walk(const std::vector<std::unique_ptr<Process>>& processes);
    void look_at_names(const std::vector<std::unique_ptr<Process>>& processes);

    Recording& recording_;
    std::size_t process_ = 0;  ///< where the walk goes on: its place in the list, and the address
    std::uint64_t address_ = 0;
    bool in_pass_ = false;
    HistorySample last_;
    io::Clock::time_point next_names_{};
};

}  // namespace farswap
