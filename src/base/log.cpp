#include "base/log.h"

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <future>
#include <memory>
#include <string>
#include <thread>

#include "base/assert.h"

namespace farswap {

namespace {
std::atomic<log::Level> current_level{log::Level::kWarning};
std::atomic<void (*)()> before_line{nullptr};
std::atomic<bool> is_written_aside{false};
const auto began = std::chrono::steady_clock::now();

constexpr std::chrono::seconds kLastLineMax{1};

/// In a thread of its own; waits for it so long.
void write_in_thread(std::string text, std::chrono::seconds limit) noexcept {
    try {
        const auto written = std::make_shared<std::promise<void>>();
        const auto done = written->get_future();
        std::thread([text = std::move(text), written] {
            [[maybe_unused]] auto bytes = ::write(STDERR_FILENO, text.data(), text.size());
            written->set_value();
        }).detach();
        done.wait_for(limit);
    } catch (const std::exception&) {  // no memory, no thread: better no line than to stand still
    }
}

void write_it(std::string_view line, std::chrono::seconds limit) noexcept {
    if (auto* hook = before_line.load(std::memory_order_relaxed)) hook();
    fmt::memory_buffer buffer;
    fmt::format_to(std::back_inserter(buffer), "farswap: {}\n", line);
    if (is_written_aside.load(std::memory_order_relaxed))
        return write_in_thread(fmt::to_string(buffer), limit);
    // A closed or full standard error must not take the job down with it.
    [[maybe_unused]] auto written = ::write(STDERR_FILENO, buffer.data(), buffer.size());
}
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
    write_it(line, std::chrono::seconds::zero());
}
void log::write_aside() noexcept {
    is_written_aside.store(true, std::memory_order_relaxed);
}
void log::write_last_line(std::string_view line) noexcept {
    write_it(line, kLastLineMax);
}

void assertion_failed(const char* expression, const char* file, int line) noexcept {
    char text[512];
    auto end = fmt::format_to_n(text, sizeof text, "farswap: invariant broken: {} ({}:{})\n", expression,
                                file, line);
    [[maybe_unused]] auto written = ::write(STDERR_FILENO, text, std::min(end.size, sizeof text));
    std::abort();
}

}  // namespace farswap
