// The verifying workload: memory whose every 64-byte line says where it belongs and how often it was
// rewritten, read and written at random and in sequence by several threads until the time or the operations
// are used up. The first wrong byte ends it with status 1 and a line that says what was found instead.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "support.h"

namespace {

using workload::fail;
using workload::Key;
using workload::kLine;
using workload::kPage;

constexpr std::uint32_t kRegion = 1;
constexpr std::size_t kLinesPerPage = kPage / kLine;
constexpr std::size_t kWordsPerLine = kLine / sizeof(std::uint64_t);
constexpr std::size_t kRunPagesMax = 64;
constexpr std::uint64_t kLookEvery = 64;  // operations

enum class Pattern { mixed, sequential, random };

struct Options {
    std::size_t size = 400UL << 20;
    int threads = 4;
    double seconds = 30;
    std::uint64_t operations = 0;  // a thread; 0: until the time is up
    std::string until;             // a file: when there is one, the time is up
    std::uint64_t seed = 1;
    Pattern pattern = Pattern::mixed;
    bool sabotage = false;  // zero one page behind the verifier's back, which must then fail
};

struct Counters {
    std::uint64_t operations = 0, lines_read = 0, lines_written = 0;
};

[[noreturn]] void usage() {
    std::fputs(
        "usage: verify [--size SIZE] [--threads N] [--seconds N] [--until FILE] [--operations N] "
        "[--seed N] [--pattern mixed|sequential|random] [--sabotage yes]\n",
        stderr);
    std::exit(workload::kExitUsage);
}

Options parse(int argc, char** argv) {
    Options options;
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 >= argc) usage();
        const std::string flag = argv[i];
        const std::string value = argv[i + 1];
        if (flag == "--size") {
            options.size = workload::parse_size(value);
        } else if (flag == "--threads") {
            options.threads = std::atoi(value.c_str());
        } else if (flag == "--seconds") {
            options.seconds = std::atof(value.c_str());
        } else if (flag == "--until") {
            options.until = value;
        } else if (flag == "--operations") {
            options.operations = std::strtoull(value.c_str(), nullptr, 10);
        } else if (flag == "--seed") {
            options.seed = std::strtoull(value.c_str(), nullptr, 10);
        } else if (flag == "--pattern" && value == "mixed") {
            options.pattern = Pattern::mixed;
        } else if (flag == "--pattern" && value == "sequential") {
            options.pattern = Pattern::sequential;
        } else if (flag == "--pattern" && value == "random") {
            options.pattern = Pattern::random;
        } else if (flag == "--sabotage" && value == "yes") {
            options.sabotage = true;
        } else {
            usage();
        }
    }
    const std::size_t pages_min =
        static_cast<std::size_t>(std::max(options.threads, 1)) * 2 * kRunPagesMax * 2;
    if (options.threads < 1 || options.size / kPage < pages_min) usage();
    return options;
}

// The memory and the version of each of its lines. Threads rewrite only lines of their own part.
class Arena {
  public:
    explicit Arena(std::size_t bytes)
        : pages_(kRegion, bytes / kPage), versions_(bytes / kPage * kLinesPerPage, 0) {}

    std::size_t page_count() const { return pages_.count(); }

    void first_touch(std::size_t page) {
        // A fresh page must read as zeros; looking at each would make the kernel map its zero page
        // everywhere.
        if (page % 16 == 0) pages_.expect_zero(page, 1, "before the first write");
        write_lines(page * kLinesPerPage, kLinesPerPage);
    }

    void write_lines(std::size_t line, std::size_t n) {
        for (std::size_t i = line; i < line + n; i++) {
            versions_[i]++;  // modulo 256: a page 256 rewrites old is not told from the present one
            workload::write_words(pages_.data() + i * kLine, kLine, key(i));
        }
    }

    void check_lines(std::size_t line, std::size_t n, const char* when) const {
        for (std::size_t i = line; i < line + n; i++) {
            workload::expect_content(pages_.data() + i * kLine, kLine, key(i), when);
        }
    }

    void check_page(std::size_t page, const char* when) const {
        check_lines(page * kLinesPerPage, kLinesPerPage, when);
    }

    /// Sum over all versions: the same for the same seed, threads and operations.
    std::uint64_t digest() const {
        std::uint64_t sum = 0;
        for (std::size_t i = 0; i < versions_.size(); i++) sum += workload::scramble(i * 256 + versions_[i]);
        return sum;
    }

    void sabotage(std::size_t page) { std::memset(pages_.page(page), 0, kPage); }

  private:
    Key key(std::size_t line) const {
        return {kRegion, versions_[line], static_cast<std::uint32_t>(line * kWordsPerLine)};
    }

    workload::Pages pages_;
    std::vector<std::uint8_t> versions_;
};

// One thread: owns the pages [first, first + count), reads also those of the shared part that nobody
// rewrites.
class Worker {
  public:
    Worker(Arena& arena, const Options& options, int index, std::size_t first, std::size_t count,
           std::size_t shared_first)
        : arena_(arena),
          options_(options),
          random_(options.seed * 1000 + static_cast<std::uint64_t>(index)),
          first_(first),
          count_(count),
          shared_first_(shared_first) {}

    void run() {
        for (std::size_t i = 0; i < count_; i++) arena_.first_touch(first_ + i);
        if (options_.sabotage) arena_.sabotage(first_ + count_ / 2);
        const double end = workload::now_s() + options_.seconds;
        while (options_.operations > 0 ? counters_.operations < options_.operations : !is_time_up(end)) {
            step();
            counters_.operations++;
        }
        for (std::size_t i = 0; i < count_; i++) arena_.check_page(first_ + i, "final pass");
    }

    const Counters& counters() const { return counters_; }

  private:
    bool is_time_up(double end) const {
        if (workload::now_s() >= end) return true;
        return !options_.until.empty() && counters_.operations % kLookEvery == 0 &&
               ::access(options_.until.c_str(), F_OK) == 0;
    }

    void step() {
        const std::size_t dice = random_.below(100);
        if (options_.pattern == Pattern::sequential || (options_.pattern == Pattern::mixed && dice < 15)) {
            run_of_pages();
        } else if (dice < 50) {
            read_line();
        } else if (dice < 80) {
            write_line();
        } else if (dice < 90) {
            rewrite_page();
        } else {
            read_shared();
        }
    }

    // Four of five random accesses stay in a window that moves: programs have working sets.
    std::size_t pick_page() {
        const std::size_t window = std::max<std::size_t>(count_ / 20, 1);
        if (random_.below(4096) == 0) window_at_ = random_.below(count_ - window + 1);
        if (random_.below(5) != 0) return first_ + window_at_ + random_.below(window);
        return first_ + random_.below(count_);
    }

    void read_line() {
        const std::size_t line = pick_page() * kLinesPerPage + random_.below(kLinesPerPage);
        arena_.check_lines(line, 1, "random read");
        counters_.lines_read++;
    }

    void write_line() {
        const std::size_t line = pick_page() * kLinesPerPage + random_.below(kLinesPerPage);
        arena_.check_lines(line, 1, "before a random write");
        arena_.write_lines(line, 1);
        counters_.lines_written++;
    }

    void rewrite_page() {
        const std::size_t page = pick_page();
        arena_.check_page(page, "before a page is rewritten");
        arena_.write_lines(page * kLinesPerPage, kLinesPerPage);
        counters_.lines_written += kLinesPerPage;
    }

    void read_shared() {
        const std::size_t page = shared_first_ + random_.below(arena_.page_count() - shared_first_);
        arena_.check_page(page, "read of a shared page");
        counters_.lines_read += kLinesPerPage;
    }

    void run_of_pages() {
        const std::size_t length = 1 + random_.below(kRunPagesMax);
        const bool write = random_.below(3) == 0;
        for (std::size_t i = 0; i < length; i++) {
            const std::size_t page = first_ + cursor_;
            cursor_ = (cursor_ + 1) % count_;
            arena_.check_page(page, "sequential read");
            counters_.lines_read += kLinesPerPage;
            if (!write) continue;
            arena_.write_lines(page * kLinesPerPage, kLinesPerPage);
            counters_.lines_written += kLinesPerPage;
        }
    }

    Arena& arena_;
    const Options& options_;
    workload::Random random_;
    std::size_t first_, count_, shared_first_;
    std::size_t window_at_ = 0, cursor_ = 0;
    Counters counters_;
};

}  // namespace

int main(int argc, char** argv) {
    workload::set_program_name(argv[0]);
    const Options options = parse(argc, argv);
    // The table of versions, one byte a line, is part of the size.
    Arena arena(options.size / (kLinesPerPage + 1) * kLinesPerPage / kPage * kPage);
    const std::size_t shared_first = arena.page_count() / 8 * 7;
    for (std::size_t page = shared_first; page < arena.page_count(); page++) arena.first_touch(page);

    const auto threads = static_cast<std::size_t>(options.threads);
    std::vector<Worker> workers;
    workers.reserve(threads);
    for (std::size_t i = 0; i < threads; i++) {
        const std::size_t part = shared_first / threads;
        workers.emplace_back(arena, options, static_cast<int>(i), i * part, part, shared_first);
    }
    std::vector<std::jthread> running;
    for (auto& worker : workers) running.emplace_back([&worker] { worker.run(); });
    running.clear();
    for (std::size_t page = shared_first; page < arena.page_count(); page++) {
        arena.check_page(page, "final pass over the shared pages");
    }

    Counters total;
    for (const auto& worker : workers) {
        total.operations += worker.counters().operations;
        total.lines_read += worker.counters().lines_read;
        total.lines_written += worker.counters().lines_written;
    }
    fmt::print("verify: ok: {} operations, {} lines read, {} lines written, {} pages, digest {:016x}\n",
               total.operations, total.lines_read, total.lines_written, arena.page_count(), arena.digest());
    return 0;
}
