// Draws the live line; see live_line.h.
#include "cli/live_line.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "base/log.h"
#include "cli/sizes.h"
#include "farswap/request.h"

namespace farswap::cli {

namespace {

constexpr std::string_view kClear = "\r\x1b[K";  // ECMA-48: carriage return, erase to the end of the line

LiveLine* shown = nullptr;

double rate(std::uint64_t now, std::uint64_t before, double seconds) {
    return now > before && seconds > 0 ? static_cast<double>(now - before) / seconds : 0;
}

/// The terminal behind standard error, opened anew: O_NONBLOCK on the descriptor that we were given would
/// reach everybody who shares it. Empty when it is no terminal or may not be opened.
Fd open_terminal() {
    if (::isatty(STDERR_FILENO) != 1) return {};
    return Fd(::open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
}

bool may_draw(int terminal) {
    if (::tcgetpgrp(terminal) != ::getpgrp()) return false;
    termios settings{};
    return ::tcgetattr(terminal, &settings) == 0 && (settings.c_lflag & ICANON) != 0;
}

std::size_t terminal_columns(int terminal) {
    winsize size{};
    return ::ioctl(terminal, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

/// "251/256 MiB": both in the unit that suits the cap.
std::string of_cap(std::uint64_t used, std::uint64_t cap) {
    const bool gib = cap >= 10ull << 30;
    const double unit = gib ? 0x1p30 : 0x1p20;
    const auto part = [&](std::uint64_t bytes) { return static_cast<double>(bytes) / unit; };
    return gib ? fmt::format("{:.1f}/{:.1f} GiB", part(used), part(cap))
               : fmt::format("{:.0f}/{:.0f} MiB", part(used), part(cap));
}

}  // namespace

std::string live_text(const LiveFigures& figures, std::size_t columns) {
    const auto& [now, before] = figures;
    const double seconds = now.elapsed_s - before.elapsed_s;
    const auto bytes_rate = [&](std::uint64_t a, std::uint64_t b) {
        return format_rate(rate(a, b, seconds) * static_cast<double>(kPageSize));
    };
    auto text = fmt::format("RAM {}  far {}  in {}  out {}  faults {}/s", of_cap(now.ram_now, now.ram_cap),
                            format_size(now.far_pages * kPageSize),
                            bytes_rate(now.swap.pages_in, before.swap.pages_in),
                            bytes_rate(now.swap.pages_written, before.swap.pages_written),
                            format_count(rate(now.faults, before.faults, seconds)));
    if (text.size() > columns) text.resize(columns);
    return text;
}

LiveLine::LiveLine(bool enabled) {
    if (enabled) terminal_ = open_terminal();
    if (!terminal_) return;
    shown = this;
    log::set_before_line([] { shown->clear(); });
}

LiveLine::~LiveLine() {
    if (!terminal_) return;
    clear();
    log::set_before_line(nullptr);
    shown = nullptr;
}

void LiveLine::update(const JobStats& stats) {
    if (!terminal_) return;
    if (stats.pages_evicted > 0 && may_draw(terminal_.get())) {
        // One column less than there are: the last one would wrap on some terminals.
        put(std::string(kClear) + live_text({stats, before_}, terminal_columns(terminal_.get()) - 1));
        drawn_ = true;
    }
    before_ = stats;
}

void LiveLine::clear() noexcept {
    if (drawn_.exchange(false)) put(kClear);
}

void LiveLine::put(std::string_view text) noexcept {
    [[maybe_unused]] const auto written = ::write(terminal_.get(), text.data(), text.size());
}

}  // namespace farswap::cli
