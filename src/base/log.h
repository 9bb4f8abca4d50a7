// One line a message on standard error, prefixed "farswap: ". Knows of no layer.
#pragma once

#include <fmt/format.h>

#include <string_view>
#include <utility>

#include "base/no_allocation.h"

namespace farswap::log {

enum class Level { kQuiet, kWarning, kInfo, kDebug };

/// The least urgent level that is still written. Set once by the command line; FARSWAP_LOG=debug raises it.
void set_level(Level level) noexcept;
Level level() noexcept;

/// Writes one line with a single write(2), so that lines of several threads never mix. Any thread.
void write_line(std::string_view line) noexcept;

/// While one exists, lines are written by a thread of its own (log_writer.h), and nobody waits for them: for
/// a pager, whose programs hold the lock of standard error while they wait for a page that they write there.
/// A child of fork(2) writes its lines itself. Its end waits for what has not been written yet, ten seconds
/// at most. std::system_error: no thread to be had.
class Aside {
  public:
    Aside();
    ~Aside();
    Aside(const Aside&) = delete;
    Aside& operator=(const Aside&) = delete;
};
/// For the last line before the end: if it is written aside, waits for that, a second at most.
void write_last_line(std::string_view line) noexcept;

/// Seconds since the program started: what debug lines carry, so that a delay can be read off them.
double uptime_s() noexcept;

/// A hook that runs before each line, in whatever thread writes it: the live status line clears itself with
/// it. Null removes it; it does not run any more then.
void set_before_line(void (*hook)()) noexcept;

template <typename... Args>
void warning(fmt::format_string<Args...> format, Args&&... args) {
    if (level() < Level::kWarning) return;
    const MayAllocate line("a line for the operator: something is not as it should be");
    write_line(fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void info(fmt::format_string<Args...> format, Args&&... args) {
    if (level() < Level::kInfo) return;
    const MayAllocate line("a line that was asked for");
    write_line(fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void debug(fmt::format_string<Args...> format, Args&&... args) {
    if (level() < Level::kDebug) return;
    const MayAllocate line("a line that was asked for");
    write_line(fmt::format("[{:.4f}] {}", uptime_s(), fmt::format(format, std::forward<Args>(args)...)));
}

}  // namespace farswap::log
