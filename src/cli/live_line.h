// The line that shows on a terminal what a job does, updated in place. Knows the job's figures and the
// terminal.
#pragma once

#include <atomic>
#include <cstddef>
#include <string>
#include <string_view>

#include "base/fd.h"
#include "pager/job.h"

namespace farswap::cli {

/// The figures of one update: the last ones and, for the rates, those before.
struct LiveFigures {
    JobStats now;
    JobStats before;
};

/// "RAM 251/256 MiB  far 1.2 GiB  in 312 MB/s  out 80 MB/s  faults 12 k/s", cut to `columns` characters.
std::string live_text(const LiveFigures& figures, std::size_t columns);

/// Draws the line on standard error. Nothing is drawn when standard error is not a terminal, while farswap is
/// not in the foreground (the write would stop it), or while the program has the terminal in raw mode (an
/// editor's screen). One at a time: the hook that clears it before other lines is global. The main thread's.
class LiveLine {
  public:
    explicit LiveLine(bool enabled);
    ~LiveLine();
    LiveLine(const LiveLine&) = delete;
    LiveLine& operator=(const LiveLine&) = delete;

    /// Draws anew. Nothing before the job's first page has left RAM: an untroubled program has the terminal
    /// for itself.
    void update(const JobStats& stats);
    void clear() noexcept;

  private:
    void put(std::string_view text) noexcept;

    Fd terminal_;  ///< empty: nothing is ever drawn
    std::atomic<bool> drawn_{false};
    JobStats before_;
};

}  // namespace farswap::cli
