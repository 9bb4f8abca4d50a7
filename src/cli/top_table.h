// The columns of farswap top, which of them fit, and what stands in them. Knows the figures; no terminal.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/text_grid.h"
#include "cli/top_jobs.h"
#include "cli/top_view.h"

namespace farswap::cli {

/// Whether one of them has a share of the machine's budget: then there is a column of it.
bool has_shares(const std::vector<const TopJob*>& jobs);

class TopTable {
  public:
    static constexpr std::size_t kMeter = 6;

    /// Those that fit into `columns`: what says least goes first, and the program's name takes what is left.
    TopTable(std::size_t columns, bool with_users, bool with_shares);

    /// `sort`: its column is marked.
    void heading(TextGrid& grid, std::size_t row, std::optional<TopSort> sort) const;
    void line(TextGrid& grid, std::size_t row, const TopJob& job) const;
    /// Where the meter goes, which line() leaves empty; nothing where it does not fit.
    std::optional<std::size_t> meter_column() const;

  private:
    struct Place {
        std::size_t which, begin, width;
    };
    std::vector<Place> places_;
};

}  // namespace farswap::cli
