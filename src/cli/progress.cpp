#include "cli/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include "cli/sizes.h"

namespace farswap::cli {
namespace {

constexpr std::chrono::milliseconds kPeriod{100};

void draw(std::string_view text) {
    [[maybe_unused]] const auto written = write(STDERR_FILENO, text.data(), text.size());
}

}  // namespace

Progress::~Progress() {
    if (drawn_) draw("\r\x1b[K");
}

void Progress::show(std::uint64_t bytes_done) {
    done = bytes_done;
    const auto now = std::chrono::steady_clock::now();
    if (now < next_ || isatty(STDERR_FILENO) != 1) return;
    next_ = now + kPeriod;
    drawn_ = true;
    draw(fmt::format("\r\x1b[K{} {} of {}", what_, format_size(done), format_size(all)));
}

}  // namespace farswap::cli
