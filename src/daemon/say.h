// One line a message on standard error, prefixed "farswapd: "; under systemd that is the journal.
#pragma once

#include <fmt/format.h>
#include <unistd.h>

#include <utility>

namespace farswap::daemon {

/// With a single write(2), so that lines of several processes never mix.
template <typename... Args>
void say(fmt::format_string<Args...> format, Args&&... args) {
    const auto line = "farswapd: " + fmt::format(format, std::forward<Args>(args)...) + "\n";
    [[maybe_unused]] const auto written = ::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace farswap::daemon
