#include "base/log.h"

#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <mutex>

#include "base/assert.h"
#include "base/log_writer.h"

namespace farswap {

namespace {
std::atomic<log::Level> current_level{log::Level::kWarning};
const auto began = std::chrono::steady_clock::now();

std::mutex hook_mutex;
void (*before_line)() = nullptr;

std::mutex aside_mutex;  ///< of those who come and go
unsigned asides = 0;
std::atomic<LogWriter*> writer{nullptr};

constexpr std::chrono::seconds kLastLineMax{1}, kEndMax{10};

void run_hook() noexcept {
    const std::lock_guard lock(hook_mutex);
    if (before_line != nullptr) before_line();
}

/// A line with its end.
void write_out(std::string_view line) noexcept {
    if (auto* aside = writer.load(std::memory_order_acquire)) return aside->put(line);
    run_hook();
    // A closed or full standard error must not take the job down with it.
    [[maybe_unused]] auto written = ::write(STDERR_FILENO, line.data(), line.size());
}

void wait_for_lines() noexcept {
    if (auto* aside = writer.load(std::memory_order_acquire)) aside->drain(kLastLineMax);
}
}  // namespace

void log::set_level(Level level) noexcept {
    current_level.store(level, std::memory_order_relaxed);
}
log::Level log::level() noexcept {
    return current_level.load(std::memory_order_relaxed);
}
void log::set_before_line(void (*hook)()) noexcept {
    const std::lock_guard lock(hook_mutex);
    before_line = hook;
}

log::Aside::Aside() {
    const std::lock_guard lock(aside_mutex);
    if (writer.load(std::memory_order_relaxed) == nullptr) {
        // The thread is not in a child of fork(2).
        [[maybe_unused]] static const int once =
            ::pthread_atfork(nullptr, nullptr, [] { writer.store(nullptr, std::memory_order_relaxed); });
        writer.store(new LogWriter(STDERR_FILENO, run_hook), std::memory_order_release);
    }
    ++asides;
}

log::Aside::~Aside() {
    const std::lock_guard lock(aside_mutex);
    if (--asides > 0) return;
    if (auto* aside = writer.exchange(nullptr)) LogWriter::end(aside, kEndMax);
}

double log::uptime_s() noexcept {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
}

void log::write_line(std::string_view line) noexcept {
    fmt::memory_buffer buffer;
    fmt::format_to(std::back_inserter(buffer), "farswap: {}\n", line);
    write_out({buffer.data(), buffer.size()});
}
void log::write_last_line(std::string_view line) noexcept {
    write_line(line);
    wait_for_lines();
}

void assertion_failed(const char* expression, const char* file, int line) noexcept {
    char text[512];
    auto end = fmt::format_to_n(text, sizeof text, "farswap: invariant broken: {} ({}:{})\n", expression,
                                file, line);
    write_out({text, std::min(end.size, sizeof text)});
    wait_for_lines();
    std::abort();
}

}  // namespace farswap
