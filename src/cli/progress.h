// A line on the terminal that says how far something is. Knows nothing of what it is.
#pragma once

#include <chrono>
#include <cstdint>
#include <string_view>

namespace farswap::cli {

/// Draws "WHAT 120 MiB of 1.2 GiB" in place on standard error, if that is a terminal, a few times a second;
/// wiped on destruction.
class Progress {
  public:
    explicit Progress(std::string_view what) : what_(what) {}
    ~Progress();
    Progress(const Progress&) = delete;
    Progress& operator=(const Progress&) = delete;

    void add(std::uint64_t bytes) { show(done + bytes); }
    void show(std::uint64_t bytes_done);

    std::uint64_t done = 0, all = 0;  ///< bytes

  private:
    std::string_view what_;
    std::chrono::steady_clock::time_point next_{};
    bool drawn_ = false;
};

}  // namespace farswap::cli
