#include "runner.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <ctime>
#include <optional>
#include <vector>

#include "base/log.h"
#include "job.h"

namespace farswap::simulate {
namespace {

constexpr int kFailed = 3;          // a status of nobody else's
constexpr rlim_t kSecondsMax = 60;  // of a processor, for one run: it turns in circles else
constexpr std::uint64_t kShrinkRuns = 120;

/// The world's clock is not the machine's.
std::int64_t wall_clock() {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

void tell_signal(int signal) {
    if (world != nullptr) {
        fmt::print(stderr, "simulate: seed {} step {}: {}\n", world->options.seed, world->steps,
                   signal == SIGXCPU ? "it does not end" : "ended by a signal");
        print_trace();
    }
    _exit(kFailed);
}

/// A run in a process of its own; what it says lands in a memfd.
struct Running {
    Options options;
    pid_t process = 0;
    int said = -1;
};

Running start(const Options& options) {
    Running running{options, 0, memfd_create("simulate", MFD_CLOEXEC)};
    running.process = ::fork();
    if (running.process != 0) return running;
    if (!options.trace) dup2(running.said, STDERR_FILENO);
    const rlimit limit{kSecondsMax, kSecondsMax + 5};
    setrlimit(RLIMIT_CPU, &limit);
    for (const int signal : {SIGABRT, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGXCPU})
        ::signal(signal, tell_signal);
    Options chosen = options;
    chosen.choose();
    run_seed(chosen);
    _exit(0);
}

std::string text_of(int descriptor) {
    std::string text;
    lseek(descriptor, 0, SEEK_SET);
    char piece[4096];
    for (ssize_t got = 0; (got = ::read(descriptor, piece, sizeof piece)) > 0;)
        text.append(piece, static_cast<std::size_t>(got));
    return text;
}

/// What it said, if it failed.
std::optional<std::string> end_of(Running& running, int status) {
    std::string said = text_of(running.said);
    ::close(running.said);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return std::nullopt;
    if (said.empty())
        said = fmt::format("simulate: seed {}: ended with status {:#x}\n", running.options.seed, status);
    return said;
}

bool fails(const Options& options, std::string& said) {
    Running running = start(options);
    int status = 0;
    waitpid(running.process, &status, 0);
    const auto failure = end_of(running, status);
    if (failure) said = *failure;
    return failure.has_value();
}

/// Makes a failing run smaller: fewer kinds of events, processes, pages, steps; other seeds where its own
/// does not show it any more.
class Shrinker {
  public:
    explicit Shrinker(const Options& failing) : smallest_(failing) {}

    Options run() {
        for (unsigned feature = 0; feature < kFeatures; ++feature) {
            if ((smallest_.allowed >> feature & 1) == 0) continue;
            Options less = smallest_;
            less.allowed &= ~(1ull << feature);
            attempt(less);
        }
        for (const std::uint32_t processes : {1u, 2u, 3u}) {
            Options less = smallest_;
            less.processes = processes;
            if ((smallest_.processes == 0 || processes < smallest_.processes) && attempt(less)) break;
        }
        for (const std::uint32_t pages : {60u, 120u, 250u}) {
            Options less = smallest_;
            less.pages = pages;
            if (attempt(less)) break;
        }
        for (bool again = true; again && smallest_.steps > 100;) {
            Options less = smallest_;
            less.steps /= 2;
            again = attempt(less);
        }
        return smallest_;
    }
    const std::string& said() const { return said_; }

  private:
    bool attempt(Options less) {
        const std::uint64_t seed = less.seed;
        for (std::uint64_t other = 0; other < 4 && runs_ < kShrinkRuns; ++other, ++runs_) {
            less.seed = other == 0 ? seed : seed * 1000 + other;
            if (!fails(less, said_)) continue;
            smallest_ = less;
            return true;
        }
        return false;
    }

    Options smallest_;
    std::string said_;
    std::uint64_t runs_ = 0;
};

int report(const Options& options, const std::string& said, bool shrinks) {
    fmt::print("{}simulate: again with: {}\n", said, command_of(options));
    std::fflush(stdout);
    if (!shrinks) return 1;
    Shrinker shrinker(options);
    const Options smallest = shrinker.run();
    fmt::print("simulate: smallest that fails: {}\n{}", command_of(smallest), shrinker.said());
    return 1;
}

}  // namespace

[[noreturn]] void fail_run(const std::string& what) {
    fmt::print(stderr, "simulate: seed {} step {}: {}\n", world->options.seed, world->steps, what);
    print_trace();
    _exit(kFailed);
}

std::string command_of(const Options& options) {
    std::string command =
        fmt::format("script/simulate --seed {} --seeds 1 --steps {}", options.seed, options.steps);
    if (options.processes != 0) command += fmt::format(" --processes {}", options.processes);
    if (options.pages != 0) command += fmt::format(" --pages {}", options.pages);
    for (unsigned feature = 0; feature < kFeatures; ++feature) {
        if ((options.allowed >> feature & 1) == 0)
            command += fmt::format(" --no-{}", kFeatureNames[feature]);
        else if ((options.wanted >> feature & 1) != 0)
            command += fmt::format(" --with-{}", kFeatureNames[feature]);
    }
    return command;
}

void run_seed(const Options& options) {
    log::set_level(options.trace ? log::Level::kDebug : log::Level::kQuiet);
    World run(options);
    {
        SimulatedJob job;
        job.run();
    }
}

int run_campaign(const Campaign& campaign) {
    const std::int64_t end = wall_clock() + std::chrono::nanoseconds(campaign.time).count();
    std::vector<Running> running;
    Options next = campaign.first;
    std::uint64_t begun = 0, ended = 0;
    const auto goes_on = [&] {
        return (campaign.seeds == 0 || begun < campaign.seeds) &&
               (campaign.time.count() == 0 || wall_clock() < end);
    };
    std::optional<int> result;
    while (!running.empty() || (!result && goes_on())) {
        while (!result && running.size() < campaign.jobs && goes_on()) {
            running.push_back(start(next));
            ++next.seed;
            ++begun;
        }
        int status = 0;
        const pid_t process = waitpid(-1, &status, 0);
        for (auto one = running.begin(); one != running.end(); ++one) {
            if (one->process != process) continue;
            const auto said = end_of(*one, status);
            const Options failed = one->options;
            running.erase(one);
            ++ended;
            if (said && !result) result = report(failed, *said, campaign.shrinks && running.empty());
            if (said && !running.empty() && campaign.shrinks) {
                // The others end first: shrinking waits for its own.
                for (const Running& other : running) waitpid(other.process, &status, 0);
                running.clear();
                result = report(failed, *said, true);
            }
            break;
        }
    }
    if (!result)
        fmt::print("simulate: {} seeds, {} to {}, nothing found\n", ended, campaign.first.seed,
                   next.seed - 1);
    return result.value_or(0);
}

}  // namespace farswap::simulate
