// The command line: what farswap was asked to do. Knows words, not how anything is done.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "base/result.h"
#include "cli/sizes.h"
#include "swap/compress.h"

namespace farswap::cli {

/// farswap run [options] [--] PROGRAM [ARGUMENT]..., farswap size with the same, and farswap attach [options]
/// PID...
struct RunOptions {
    RamSize ram{.percent = 90};  ///< neither: see `sizes`
    bool ram_given = false, compression_given = false,
         when_full_given = false;                    ///< else the machine's default may be another
    std::vector<std::string> swap;                   ///< URLs; none: the default store
    std::uint32_t mirror = 1;                        ///< copies of each page: 1 or 2
    std::string stats_file;                          ///< empty: none
    std::string report_file;                         ///< empty: none
    std::string metrics;                             ///< where metrics are served; empty: nowhere
    std::optional<std::uint64_t> pool;               ///< bytes
    std::optional<std::chrono::seconds> outage_max;  ///< none: wait for ever
    bool wait_when_full = false;
    bool seal = true;
    Compression compression = Compression::kLz4;
    bool cache_tier = true;
    bool keeper = true;
    bool overcommit = false;
    std::uint32_t chaos = 0;  ///< pages a second; 0: none
    bool quiet = false;
    bool verbose = false;
    bool sizes =
        false;  ///< what is asked for is the estimate of sizes; then no `ram` is one that follows the need
    std::optional<std::chrono::seconds>
        sizes_limit;                 ///< how long that run may take; none: as long as it takes
    std::vector<std::string> argv;   ///< the program and its arguments, at least one
    std::vector<pid_t> processes{};  ///< or, if not empty, processes that run already
};

/// farswap detach [--force] PID...
struct DetachOptions {
    std::vector<pid_t> processes;
    bool force = false;
};

/// farswap set PID --ram SIZE
struct SetOptions {
    pid_t process = 0;
    RamSize ram;
    bool json = false;  ///< the outcome for programs
};

/// farswap size [--json] PID
struct SizeOptions {
    pid_t process = 0;
    bool json = false;
};

/// farswap resume PID
struct ResumeOptions {
    pid_t pager = 0;
};

/// farswap report STATS [-o FILE]
struct ReportOptions {
    std::string stats_file;
    std::string output;  ///< empty: beside the statistics file; "-": standard output
};

/// farswap top
struct TopOptions {
    bool once = false;
    bool json = false;
    double interval_s = 1;  ///< between two looks
};

/// farswap budget
struct BudgetOptions {
    bool json = false;
};

/// farswap core [-o FILE] PID and farswap core --merge -o FILE PID
struct CoreOptions {
    pid_t process = 0;
    std::string output;  ///< empty: core.PID; "-": standard output
    bool merge = false;
};

/// farswap debug [--] DEBUGGER [ARGUMENT]...
struct DebugOptions {
    std::vector<std::string> argv;  ///< at least one
};

/// farswap check [URL]... and farswap check --clean URL
struct CheckOptions {
    std::vector<std::string> urls;
    bool clean = false;
    bool yes = false;
};

/// farswap bench URL...
struct BenchOptions {
    std::vector<std::string> urls;                  ///< at least one
    std::uint64_t size = std::uint64_t{256} << 20;  ///< bytes of the store that are used
    double seconds = 0.5;                           ///< for each size, depth and direction
    std::string json;                               ///< a file; empty: none
};

/// Text that was asked for: --help, --version.
struct PrintText {
    std::string text;
};

using Command =
    std::variant<RunOptions, DetachOptions, SetOptions, SizeOptions, ResumeOptions, ReportOptions, TopOptions,
                 BudgetOptions, CoreOptions, DebugOptions, CheckOptions, BenchOptions, PrintText>;

/// Parses what stands behind the command's name. EINVAL: one line that names the word that is wrong.
Result<Command> parse_command_line(std::span<const char* const> words);

}  // namespace farswap::cli
