// The file behind --stats or --report: opened before the program runs, written at the end. Knows nothing of
// what is in it.
#pragma once

#include <string>
#include <string_view>

#include "base/fd.h"
#include "base/result.h"

namespace farswap::cli {

class StatsFile {
  public:
    /// Opens or creates the file and leaves its content alone until write(), so that one that cannot be
    /// written is refused while nothing has been done. An empty path is no file: write() then does nothing.
    /// `option` is what errors begin with.
    static Result<StatsFile> open(const std::string& path, std::string_view option = "--stats");
    /// False for none.
    explicit operator bool() const noexcept { return static_cast<bool>(fd_); }
    /// Replaces the content. Pipes and devices are written to as they are.
    Status write(std::string_view text);

  private:
    std::string path_, option_;
    Fd fd_;
};

}  // namespace farswap::cli
