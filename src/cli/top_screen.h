// Draws farswap top: a screen of any size as a grid of characters, and the plain table. Knows the figures and
// what is to be shown of them; no terminal.
#pragma once

#include <string>
#include <vector>

#include "cli/text_grid.h"
#include "cli/top_jobs.h"
#include "cli/top_view.h"

namespace farswap::cli {

struct ScreenOptions {
    std::size_t rows = 24, columns = 80;
    bool unicode = true;  ///< blocks and lines; else ASCII only
    std::string host, time;
};

/// Lines of jobs, the selected one marked by '>' too, and, where there are rows enough, more of that one.
TextGrid draw_top(const TopView& view, const std::vector<TopJob>& jobs, const ScreenOptions& options);

/// All columns of all jobs, by their number; one line says so when there is none.
std::string top_table(const std::vector<TopJob>& jobs);
/// For programs: an array of what each pager said (docs/stats.md), and `rates`.
nlohmann::json top_json(const std::vector<TopJob>& jobs);

/// At most 5 characters: "512K", "1.2G", "1023M". Of 1024 or 1000.
std::string compact(double value, double step);
/// A state that says most of a job: "ok", "silent 7s", "no answer".
std::string state_of(const TopJob& job);

}  // namespace farswap::cli
