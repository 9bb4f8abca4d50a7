#include "base/log.h"

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>

#include "base/assert.h"

namespace farswap {

namespace {
std::atomic<log::Level> current_level{log::Level::kWarning};
std::atomic<void (*)()> before_line{nullptr};
const auto began = std::chrono::steady_clock::now();
}  // namespace

void log::set_level(Level level) noexcept {
    current_level.store(level, std::memory_order_relaxed);
}
log::Level log::level() noexcept {
    return current_level.load(std::memory_order_relaxed);
}
void log::set_before_line(void (*hook)()) noexcept {
    before_line.store(hook, std::memory_order_relaxed);
}

double log::uptime_s() noexcept {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
}

void log::write_line(std::string_view line) noexcept {
    if (auto* hook = before_line.load(std::memory_order_relaxed)) hook();
    fmt::memory_buffer buffer;
    fmt::format_to(std::back_inserter(buffer), "farswap: {}\n", line);
    // A closed or full standard error must not take the job down with it.
    [[maybe_unused]] auto written = ::write(STDERR_FILENO, buffer.data(), buffer.size());
}

void assertion_failed(const char* expression, const char* file, int line) noexcept {
    char text[512];
    auto end = fmt::format_to_n(text, sizeof text, "farswap: invariant broken: {} ({}:{})\n", expression,
                                file, line);
    [[maybe_unused]] auto written = ::write(STDERR_FILENO, text, std::min(end.size, sizeof text));
    std::abort();
}

}  // namespace farswap
