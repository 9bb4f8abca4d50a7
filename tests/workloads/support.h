// What every scenario program shares: options, failing with a clear line, pages with known content, and
// pushing cold pages out by dirtying filler. Knows nothing of farswap: a scenario passes on a plain run too.
#pragma once

#include <fmt/format.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <thread>
#include <utility>

#include "content.h"

namespace workload {

inline constexpr int kExitFailure = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitSkipped = 77;  ///< the kernel or processor lacks what the scenario needs

/// Options that all scenarios understand: --filler SIZE --rounds N --threads N --seconds N --seed N --dir
/// PATH.
struct Options {
    std::string name;  ///< of the program, for messages
    std::size_t filler =
        64UL << 20;  ///< bytes dirtied to push other pages out; larger than the cap to be useful
    int rounds = 3;
    int threads = 4;
    int seconds = 5;
    std::uint64_t seed = 1;
    std::string dir = "/var/tmp";  ///< for files; on a file system that knows O_DIRECT
    std::string extra;             ///< --extra TEXT, for a scenario's own use over exec
};

/// Parses argv or ends with a usage line and status 2. Remembers the name for fail().
Options parse_options(int argc, char** argv);

/// What messages begin with: the last part of `path`.
void set_program_name(const std::string& path);

/// 400M, 4G, 65536; 0 when it is no size.
std::size_t parse_size(const std::string& text);

/// One line on standard error, "NAME: FAIL: ...", and exit status 1, from any thread.
[[noreturn]] void fail_with(const std::string& message);
[[noreturn]] void skip_with(const std::string& message);

template <typename... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
    fail_with(fmt::format(format, std::forward<Args>(args)...));
}

template <typename... Args>
[[noreturn]] void skip(fmt::format_string<Args...> format, Args&&... args) {
    skip_with(fmt::format(format, std::forward<Args>(args)...));
}

template <typename... Args>
void check(bool good, fmt::format_string<Args...> format, Args&&... args) {
    if (!good) fail_with(fmt::format(format, std::forward<Args>(args)...));
}

/// The result of a system call; fails with its errno when it is -1.
long sys(long result, const char* what);

/// Small fast generator (splitmix64); each thread its own.
class Random {
  public:
    explicit Random(std::uint64_t seed) : state_(seed) {}
    std::uint64_t next() { return scramble(state_ += 0x9e3779b97f4a7c15ULL); }
    std::size_t below(std::size_t bound) { return bound == 0 ? 0 : static_cast<std::size_t>(next() % bound); }

  private:
    std::uint64_t state_;
};

/// A private anonymous mapping, unmapped at the end. The content helpers treat it as one region of
/// Key::region.
class Pages {
  public:
    Pages(std::uint32_t region, std::size_t pages);
    ~Pages();
    Pages(const Pages&) = delete;
    Pages& operator=(const Pages&) = delete;

    std::byte* data() const { return data_; }
    std::byte* page(std::size_t index) const { return data_ + index * kPage; }
    std::size_t count() const { return count_; }
    std::size_t bytes() const { return count_ * kPage; }
    Key key(std::uint32_t version, std::size_t page = 0) const;

    /// Writes version `version` into all pages, or into `n` from `first`.
    void stamp(std::uint32_t version) const;
    void stamp(std::uint32_t version, std::size_t first, std::size_t n) const;
    /// Fails with `when` in the message unless the pages hold `version`.
    void expect(std::uint32_t version, const char* when) const;
    void expect(std::uint32_t version, std::size_t first, std::size_t n, const char* when) const;
    void expect_zero(std::size_t first, std::size_t n, const char* when) const;

  private:
    std::byte* data_;
    std::size_t count_;
    std::uint32_t region_;
};

/// Fails unless `bytes` at `at` hold the content that begins with `first`.
void expect_content(const void* at, std::size_t bytes, Key first, const char* when);

/// Pushes cold pages out: dirties its whole size in every push, and checks what the last push left.
class Filler {
  public:
    explicit Filler(std::size_t bytes);
    void push();

  private:
    Pages pages_;
    std::uint32_t version_ = 0;
};

/// Pushes from a thread of its own until destroyed, so that eviction runs while the scenario acts.
class BackgroundFiller {
  public:
    explicit BackgroundFiller(std::size_t bytes);
    ~BackgroundFiller();
    std::uint64_t pushes() const { return pushes_; }

  private:
    std::atomic<bool> stop_{false};
    std::atomic<std::uint64_t> pushes_{0};
    Filler filler_;
    std::jthread thread_;
};

/// Counts which pages of the range are absent from the program now (mincore), for report_probes().
void probe(const void* at, std::size_t bytes);

/// "NAME: ok (N of M probed pages were away)" on standard error and "NAME: ok" on standard output; returns 0.
int succeed();

/// Runs `child` in a forked process and fails unless it ends with status 0.
void in_child(const char* what, const std::function<void()>& child);

/// Waits for `pid` and fails unless it exited with `status`.
void expect_exit(int pid, int status, const char* what);

/// Seconds of CLOCK_MONOTONIC.
double now_s();

}  // namespace workload
