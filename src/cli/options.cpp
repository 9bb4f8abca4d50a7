// Parses the command line with CLI11; see options.h.
#include "cli/options.h"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <utility>

#include "cli/describe.h"
#include "store/open.h"

namespace farswap::cli {

namespace {

constexpr std::string_view kDescription =
    "farswap runs a program under a RAM cap and keeps its cold pages on a file server or a file.";

/// Asks for what --help tells, as JSON: for manual pages and completions (docs/commands.md, "Help for
/// programs").
constexpr std::string_view kHelpForPrograms = "--help-json";

/// CLI11's help with our own usage lines: it cannot know that a program follows.
class HelpFormat : public CLI::Formatter {
  public:
    explicit HelpFormat(std::string usage) : usage_(std::move(usage)) { column_width(26); }
    std::string make_usage(const CLI::App*, std::string) const override { return usage_; }
    std::string make_option_opts(const CLI::Option* option) const override {
        const std::string value = value_word(*option);
        return (value.empty() ? "" : " " + value) + (option->get_expected_max() > 1 ? " ..." : "");
    }

  private:
    std::string usage_;
};

/// CLI11 parses a vector from its end.
std::vector<std::string> reversed(std::span<const char* const> words) {
    return {words.rbegin(), words.rend()};
}

/// Parses `words` with `app`: nothing, or the help text that was asked for.
Result<std::optional<PrintText>> parse_with(CLI::App& app, std::span<const char* const> words) {
    if (words.size() == 1 && words[0] == kHelpForPrograms) return PrintText{describe(app)};
    try {
        app.parse(reversed(words));
        return std::nullopt;
    } catch (const CLI::CallForHelp&) {
        return PrintText{app.help()};
    } catch (const CLI::ParseError& error) {
        return fail(EINVAL, "{}; see {} --help", error.what(), app.get_name());
    }
}

/// CLI::Range lets NaN pass.
CLI::Validator a_number() {
    return {[](const std::string& word) {
                return std::isnan(std::strtod(word.c_str(), nullptr)) ? word + " is not a number" : "";
            },
            ""};
}

/// What stands behind the options: the program. prefix_command() leaves an unknown option here too.
Result<std::vector<std::string>> program_words(std::vector<std::string> words, std::string_view command) {
    if (!words.empty() && words[0] == "--")
        words.erase(words.begin());
    else if (!words.empty() && words[0].starts_with('-') && words[0] != "-")
        return fail(EINVAL, "{}: no such option; see farswap {} --help", words[0], command);
    if (words.empty() || words[0].empty())
        return fail(EINVAL, "no program given; write: farswap {} PROGRAM [ARGUMENT]...", command);
    return words;
}

/// What a job needs, whoever it is of. `ram` and `pool` are still words.
struct JobWords {
    RunOptions options;
    std::string ram, pool, on_outage = "wait", on_full = "stop", seal = "on", compress = "lz4",
                           cache_tier = "auto", keeper = "auto";
};

void add_job_options(CLI::App& app, JobWords& words) {
    RunOptions& options = words.options;
    app.add_option(
           "--ram", words.ram,
           "Cap on all memory of the job, the pager's included: a size (512M, 2G) or a percentage of what "
           "this machine or control group allows (25%). Default: 90%")
        ->type_name("SIZE|PERCENT");
    app.add_option("--swap", options.swap,
                   "Where pages go: nfs://HOST/EXPORT/PATH, nbd://HOST/EXPORT or file:PATH; may be given "
                   "several times: those of the "
                   "highest ?prio= first, equal ones in turn. Default: an unnamed file in /var/tmp")
        ->type_name("URL")
        ->allow_extra_args(false);
    app.add_option(
           "--on-outage", words.on_outage,
           "When a store does not answer: wait, or stop:SECONDS to stop the job after so long. Default: wait")
        ->type_name("wait|stop:SECONDS");
    app.add_option("--on-full", words.on_full,
                   "When the stores are full: wait until memory is freed, or stop the job. Default: stop")
        ->type_name("wait|stop")
        ->check(CLI::IsMember({"wait", "stop"}));
    app.add_option(
           "--compress", words.compress,
           "How pages are compressed before they leave, so that less is written and read. Default: lz4")
        ->type_name("lz4|zstd|off")
        ->check(CLI::IsMember({"lz4", "zstd", "off"}));
    app.add_option(
           "--cache-tier", words.cache_tier,
           "auto: compressed pages stay in memory, inside the cap, before they are written and after they "
           "were read, as many as are worth it. off: they leave at once. Default: auto")
        ->type_name("auto|off")
        ->check(CLI::IsMember({"auto", "off"}));
    app.add_option(
           "--keeper", words.keeper,
           "auto: a second process takes the pager's place if that is killed (SIGKILL), and the job goes on. "
           "off: the job is stopped then. Default: auto")
        ->type_name("auto|off")
        ->check(CLI::IsMember({"auto", "off"}));
    app.add_option(
           "--seal", words.seal,
           "on: pages are encrypted and authenticated before they leave this machine. off: a checksum "
           "tells those that came back wrong by accident. Default: on")
        ->type_name("on|off")
        ->check(CLI::IsMember({"on", "off"}));
    app.add_option(
           "--mirror", options.mirror,
           "2: keep each page on two stores, so that either may be lost. The stores given by --swap are "
           "taken two by two")
        ->type_name("2")
        ->check(CLI::Range(2, 2));
    app.add_option("--pool", words.pool,
                   "Memory for pages on their way, inside the cap. Default: a sixteenth of it")
        ->type_name("SIZE");
    app.add_option("--stats", options.stats_file,
                   "Write what was done to FILE as JSON, also when the program fails")
        ->type_name("FILE");
    app.add_option("--report", options.report_file,
                   "Write how the job went to FILE, as a page for a browser, also when the program fails")
        ->type_name("FILE");
    app.add_option("--metrics", options.metrics,
                   "Serve figures for Prometheus at http://127.0.0.1:PORT/metrics, or on a Unix socket")
        ->type_name("127.0.0.1:PORT|unix:PATH");
    app.add_option(
           "--chaos", options.chaos,
           "For tests: move so many pages a second out at random, cap or not, over stores that are slow "
           "and fail now and then")
        ->type_name("RATE")
        ->check(CLI::Range(1, 10'000'000));
    app.add_flag("-q,--quiet", options.quiet, "No live line, no summary, no warnings");
    app.add_flag("-v,--verbose", options.verbose, "Say more on the way");
}

Result<std::optional<std::chrono::seconds>> parse_on_outage(std::string_view word) {
    if (word == "wait") return std::nullopt;
    constexpr std::string_view kStop = "stop:";
    constexpr int kSecondsMax = 7 * 24 * 3600;
    int seconds = 0;
    const char* const end = word.data() + word.size();
    if (word.starts_with(kStop)) {
        const auto parsed = std::from_chars(word.data() + kStop.size(), end, seconds);
        if (parsed.ec != std::errc() || parsed.ptr != end) seconds = 0;
    }
    if (seconds <= 0 || seconds > kSecondsMax)
        return fail(EINVAL, "--on-outage {}: write wait, or stop:SECONDS with 1 to {} seconds", word,
                    kSecondsMax);
    return std::chrono::seconds(seconds);
}

Status understand(const CLI::App& app, JobWords& words) {
    RunOptions& options = words.options;
    if (options.quiet && options.verbose) return fail(EINVAL, "--quiet and --verbose exclude each other");
    if (options.mirror == 2 && (options.swap.empty() || options.swap.size() % 2 != 0))
        return fail(EINVAL,
                    "--mirror 2 takes stores two by two, and {} were given; write: --swap URL --swap URL",
                    options.swap.size());
    if (!options.report_file.empty() && options.report_file == options.stats_file)
        return fail(EINVAL, "--stats and --report cannot both be written to {}", options.report_file);
    if (app.count("--ram") > 0) {
        auto size = parse_ram_size("--ram", words.ram);
        if (!size) return std::unexpected(size.error());
        options.ram = *size;
    }
    options.ram_given = app.count("--ram") > 0;
    options.compression_given = app.count("--compress") > 0;
    options.when_full_given = app.count("--on-full") > 0;
    auto outage_max = parse_on_outage(words.on_outage);
    if (!outage_max) return std::unexpected(outage_max.error());
    options.outage_max = *outage_max;
    options.wait_when_full = words.on_full == "wait";
    options.seal = words.seal == "on";
    options.cache_tier = words.cache_tier == "auto";
    options.keeper = words.keeper == "auto";
    options.compression = compression_of(words.compress).value_or(Compression::kOff);
    if (app.count("--pool") > 0) {
        auto size = parse_size("--pool", words.pool);
        if (!size) return std::unexpected(size.error());
        options.pool = *size;
    }
    return {};
}

/// Both `farswap run` and `farswap size` have these.
void add_program_options(CLI::App& app, JobWords& words) {
    app.prefix_command();
    add_job_options(app, words);
    app.add_flag("--overcommit", words.options.overcommit,
                 "Have the kernel grant mappings larger than RAM while the job runs (needs root)");
}

Result<Command> program_of(const CLI::App& app, JobWords& words, std::string_view command) {
    if (auto understood = understand(app, words); !understood) return std::unexpected(understood.error());
    auto program = program_words(app.remaining(), command);
    if (!program) return std::unexpected(program.error());
    words.options.argv = std::move(*program);
    return words.options;
}

Result<Command> parse_run(std::span<const char* const> words) {
    CLI::App app("Run PROGRAM under a RAM cap, with its cold pages on a store.", "farswap run");
    app.formatter(std::make_shared<HelpFormat>("Usage: farswap run [OPTIONS] [--] PROGRAM [ARGUMENT]...\n"));
    JobWords job;
    add_program_options(app, job);
    const auto help = parse_with(app, words);
    if (!help) return std::unexpected(help.error());
    if (*help) return **help;
    return program_of(app, job, "run");
}

/// Process numbers, each once.
Result<std::vector<pid_t>> parse_processes(const std::vector<std::string>& words, std::string_view command) {
    if (words.empty()) return fail(EINVAL, "no process given; write: farswap {} PID", command);
    std::vector<pid_t> processes;
    for (const std::string& word : words) {
        pid_t process = 0;
        const char* end = word.data() + word.size();
        const auto parsed = std::from_chars(word.data(), end, process);
        if (parsed.ec != std::errc() || parsed.ptr != end || process <= 0)
            return fail(EINVAL, "'{}' is no process number; write: farswap {} PID", word, command);
        if (std::ranges::find(processes, process) == processes.end()) processes.push_back(process);
    }
    return processes;
}

/// `farswap size PID`: what a job that runs can be asked needs no other option.
Result<Command> size_of_running(const CLI::App& app, bool as_json) {
    for (const CLI::Option* option : app.get_options()) {
        if (option->count() > 0 && !option->check_lname("json"))
            return fail(EINVAL, "{} goes with a program; write: farswap size PID", option->get_name());
    }
    auto words = app.remaining();
    as_json |= std::erase(words, "--json") > 0;  // behind the number it is not parsed
    const auto processes = parse_processes(words, "size");
    if (!processes) return std::unexpected(processes.error());
    if (words.size() != 1)
        return fail(EINVAL, "one process at a time; write: farswap size PID (a program: farswap size -- {})",
                    words[0]);
    return SizeOptions{.process = processes->front(), .json = as_json};
}

Result<Command> parse_size_command(std::span<const char* const> words) {
    CLI::App app(
        "Tell how fast a program would be with how much RAM: PROGRAM is run short of memory, without --ram "
        "with "
        "a fifth of what it needs so far. Or that of a job that runs, by the number of one of its processes, "
        "for "
        "its run so far. What is predicted is for caps above the one that it has.",
        "farswap size");
    app.formatter(std::make_shared<HelpFormat>(
        "Usage: farswap size [OPTIONS] [--] PROGRAM [ARGUMENT]...\n       farswap size [--json] PID\n"));
    JobWords job;
    job.options.sizes = true;
    job.options.ram = {};
    add_program_options(app, job);
    std::uint32_t limit_s = 0;
    app.add_option(
           "--limit", limit_s,
           "End PROGRAM after so many seconds, and predict from what was seen by then. Default: no limit")
        ->type_name("SECONDS")
        ->check(CLI::Range(1, 7 * 24 * 3600));
    bool as_json = false;
    app.add_flag("--json", as_json, "With PID: print the curve as JSON");
    const auto help = parse_with(app, words);
    if (!help) return std::unexpected(help.error());
    if (*help) return **help;
    const auto rest = app.remaining();
    if (!rest.empty() && !rest[0].empty() && rest[0].find_first_not_of("0123456789") == std::string::npos)
        return size_of_running(app, as_json);
    if (as_json) return fail(EINVAL, "--json goes with a PID; with a program write: --stats FILE");
    if (limit_s > 0) job.options.sizes_limit = std::chrono::seconds(limit_s);
    return program_of(app, job, "size");
}

Result<Command> parse_attach(std::span<const char* const> words) {
    CLI::App app(
        "Keep processes that run already, and what they start, under a RAM cap, with their cold pages on a "
        "store. "
        "Ends with the last of them; Ctrl-C or farswap detach lets go of them, once what is outside is back.",
        "farswap attach");
    app.formatter(std::make_shared<HelpFormat>("Usage: farswap attach [OPTIONS] PID...\n"));
    JobWords job;
    add_job_options(app, job);
    std::vector<std::string> numbers;
    app.add_option("pid", numbers, "Processes; those below them come along")->type_name("PID");
    const auto help = parse_with(app, words);
    if (!help) return std::unexpected(help.error());
    if (*help) return **help;
    if (auto understood = understand(app, job); !understood) return std::unexpected(understood.error());
    auto processes = parse_processes(numbers, "attach");
    if (!processes) return std::unexpected(processes.error());
    job.options.processes = std::move(*processes);
    return job.options;
}

Result<Command> parse_detach(std::span<const char* const> words) {
    CLI::App app(
        "Have the pager of a process bring back all that is outside of it and of what it has started, and "
        "leave "
        "nothing of itself in them. Refuses where there is no room for it.",
        "farswap detach");
    app.formatter(std::make_shared<HelpFormat>("Usage: farswap detach [--force] PID...\n"));
    DetachOptions options;
    std::vector<std::string> numbers;
    app.add_option("pid", numbers, "Processes; those below them come along")->type_name("PID");
    app.add_flag("--force", options.force, "Even where the room does not seem to suffice");
    const auto help = parse_with(app, words);
    if (!help) return std::unexpected(help.error());
    if (*help) return **help;
    auto processes = parse_processes(numbers, "detach");
    if (!processes) return std::unexpected(processes.error());
    options.processes = std::move(*processes);
    return options;
}

Result<Command> parse_set(std::span<const char* const> words) {
    CLI::App app("Give a job that runs another RAM cap. What is above a lower one moves out at once.",
                 "farswap set");
    app.formatter(std::make_shared<HelpFormat>("Usage: farswap set PID --ram SIZE|PERCENT [--json]\n"));
    SetOptions options;
    std::vector<std::string> numbers;
    std::string ram;
    app.add_option("pid", numbers, "Any process of the job")->type_name("PID");
    app.add_option("--ram", ram,
                   "The cap: a size (512M, 2G), or a percentage of what the job's machine or control group "
                   "allows (25%)")
        ->type_name("SIZE|PERCENT");
    app.add_flag("--json", options.json, "Print what was set as JSON");
    const auto help = parse_with(app, words);
    if (!help) return std::unexpected(help.error());
    if (*help) return **help;
    auto processes = parse_processes(numbers, "set");
    if (!processes) return std::unexpected(processes.error());
    if (processes->size() != 1)
        return fail(EINVAL, "one process at a time; write: farswap set PID --ram SIZE");
    if (app.count("--ram") == 0) return fail(EINVAL, "no cap given; write: farswap set PID --ram SIZE");
    const auto size = parse_ram_size("--ram", ram);
    if (!size) return std::unexpected(size.error());
    options.process = processes->front();
    options.ram = *size;
    return options;
}

Result<Command> parse_resume(std::span<const char* const> words) {
    CLI::App app(
        "Have a job go on whose pager is stopped and cannot be continued: the pager is killed, and its "
        "keeper "
        "puts another process in its place, which goes on where it was. One that was killed needs no "
        "command.",
        "farswap resume");
    app.formatter(std::make_shared<HelpFormat>("Usage: farswap resume PID\n"));
    std::vector<std::string> numbers;
    app.add_option("pid", numbers, "The pager")->type_name("PID");
    const auto help = parse_with(app, words);
    if (!help) return std::unexpected(help.error());
    if (*help) return **help;
    auto processes = parse_processes(numbers, "resume");
    if (!processes) return std::unexpected(processes.error());
    if (processes->size() != 1) return fail(EINVAL, "one pager at a time; write: farswap resume PID");
    return ResumeOptions{processes->front()};
}

Result<Command> parse_top(std::span<const char* const> words) {
    CLI::App app("Show all jobs of this user (of all users to root) and what they do.", "farswap top");
    app.formatter(
        std::make_shared<HelpFormat>("Usage: farswap top [--once] [--json] [--interval SECONDS]\n"));
    TopOptions options;
    app.add_flag("--once", options.once, "Print one table and end, as is done where there is no terminal");
    app.add_flag("--json", options.json, "Print an array of all jobs' figures and end");
    app.add_option("--interval", options.interval_s,
                   "Between two looks, which rates are taken over. Default: 1")
        ->type_name("SECONDS")
        ->check(CLI::Range(0.1, 60.0) & a_number());
    const auto help = parse_with(app, words);
    if (!help) return std::unexpected(help.error());
    if (*help) return **help;
    return options;
}

Result<Command> parse_budget(std::span<const char* const> words) {
    CLI::App app("Show who holds what of the RAM that farswapd divides between all jobs of this machine.",
                 "farswap budget");
    app.formatter(std::make_shared<HelpFormat>("Usage: farswap budget [--json]\n"));
    BudgetOptions options;
    app.add_flag("--json", options.json, "Print it as JSON");
    const auto help = parse_with(app, words);
    if (!help) return std::unexpected(help.error());
    if (*help) return **help;
    return options;
}

Result<Command> parse_report(std::span<const char* const> words) {
    CLI::App app(
        "Make the page that shows how a job went, of what farswap run --stats STATS wrote. It needs nothing "
        "from "
        "elsewhere.",
        "farswap report");
    app.formatter(std::make_shared<HelpFormat>("Usage: farswap report [-o PAGE] STATS\n"));
    ReportOptions options;
    app.add_option("stats", options.stats_file, "The statistics file")->type_name("STATS");
    app.add_option("-o,--output", options.output,
                   "The page, or - for standard output. Default: STATS with .html in place of .json")
        ->type_name("PAGE");
    const auto help = parse_with(app, words);
    if (!help) return std::unexpected(help.error());
    if (*help) return **help;
    if (options.stats_file.empty())
        return fail(EINVAL, "no statistics file given; write: farswap report STATS");
    return options;
}

Result<Command> parse_core(std::span<const char* const> words) {
    CLI::App app(
        "Write a core file of a process that farswap pages, with the content of what is outside, without "
        "bringing it "
        "in. The process stands still meanwhile. With --merge: complete the kernel's core file, read from "
        "standard "
        "input, for kernel.core_pattern.",
        "farswap core");
    app.formatter(std::make_shared<HelpFormat>(
        "Usage: farswap core [-o FILE] PID\n       farswap core --merge -o FILE PID < CORE\n"));
    CoreOptions options;
    std::vector<std::string> numbers;
    app.add_option("pid", numbers, "The process")->type_name("PID");
    app.add_option("-o,--output", options.output,
                   "The core file, or - for standard output. Default: core.PID")
        ->type_name("FILE");
    app.add_flag("--merge", options.merge, "Complete a core file that the kernel writes");
    const auto help = parse_with(app, words);
    if (!help) return std::unexpected(help.error());
    if (*help) return **help;
    auto processes = parse_processes(numbers, "core");
    if (!processes) return std::unexpected(processes.error());
    if (processes->size() != 1) return fail(EINVAL, "one process at a time; write: farswap core PID");
    if (options.merge && options.output.empty())
        return fail(EINVAL, "--merge needs -o FILE: the kernel starts it in the root directory");
    options.process = processes->front();
    return options;
}

Result<Command> parse_debug(std::span<const char* const> words) {
    CLI::App app(
        "Run a debugger that reads by /proc/PID/mem, such as gdb, so that it sees all memory of a process "
        "that farswap "
        "pages. Nothing is brought in for it.",
        "farswap debug");
    app.formatter(std::make_shared<HelpFormat>("Usage: farswap debug [--] DEBUGGER [ARGUMENT]...\n"));
    app.prefix_command();
    const auto help = parse_with(app, words);
    if (!help) return std::unexpected(help.error());
    if (*help) return **help;
    auto program = program_words(app.remaining(), "debug");
    if (!program) return std::unexpected(program.error());
    return DebugOptions{std::move(*program)};
}

Result<Command> parse_check(std::span<const char* const> words) {
    CLI::App app("Tell whether farswap can work on this machine, and with the stores that are named.",
                 "farswap check");
    app.formatter(std::make_shared<HelpFormat>(
        "Usage: farswap check [URL]...\n       farswap check --clean [--yes] URL...\n"));
    CheckOptions options;
    app.add_option("url", options.urls, "Stores to open, write to and read from")->type_name("URL");
    app.add_flag("--clean", options.clean,
                 "List what dead jobs left on the stores and remove it after asking");
    app.add_flag("-y,--yes", options.yes, "With --clean: remove without asking");
    const auto help = parse_with(app, words);
    if (!help) return std::unexpected(help.error());
    if (*help) return **help;
    if (options.clean && options.urls.empty())
        return fail(EINVAL, "--clean needs the URL of a store; write: farswap check --clean URL");
    if (options.yes && !options.clean) return fail(EINVAL, "--yes goes with --clean only");
    return options;
}

Result<Command> parse_bench(std::span<const char* const> words) {
    CLI::App app(
        "Measure stores as jobs use them: bandwidth and latency of reads and writes of 4 KiB to 1 MiB, 1 to "
        "32 at a "
        "time, and of an NFS server's calls that ask for nothing. Makes a file of its own in a directory; of "
        "a file or device that is named the content is lost.",
        "farswap bench");
    app.formatter(std::make_shared<HelpFormat>("Usage: farswap bench [OPTIONS] URL...\n"));
    BenchOptions options;
    std::string size;
    app.add_option("url", options.urls, "Stores")->type_name("URL");
    app.add_option("--size", size, "Use so much of the store, 1 MiB at least. Default: 256M")
        ->type_name("SIZE");
    app.add_option("--seconds", options.seconds, "For each of the 60 figures. Default: 0.5")
        ->type_name("SECONDS")
        ->check(CLI::Range(0.01, 600.0) & a_number());
    app.add_option("--json", options.json, "Write the figures to FILE as JSON")->type_name("FILE");
    const auto help = parse_with(app, words);
    if (!help) return std::unexpected(help.error());
    if (*help) return **help;
    if (options.urls.empty()) return fail(EINVAL, "no store given; write: farswap bench URL");
    if (app.count("--size") > 0) {
        const auto bytes = parse_size("--size", size);
        if (!bytes) return std::unexpected(bytes.error());
        if (*bytes < 1 << 20) return fail(EINVAL, "--size {}: 1M is the least", size);
        options.size = *bytes;
    }
    for (const std::string& url : options.urls)
        if (auto known = check_store_url(url); !known) return std::unexpected(known.error());
    return options;
}

/// A command: what parses its words, and how the overview shows it.
struct CommandEntry {
    std::string_view name, usage, summary;
    Result<Command> (*parse)(std::span<const char* const> words);
};

constexpr CommandEntry kCommands[] = {
    {"run", "[OPTIONS] [--] PROGRAM [ARGUMENT]...", "run a program under a RAM cap", parse_run},
    {"size", "[OPTIONS] [--] PROGRAM... | PID", "tell how fast it is with how much RAM", parse_size_command},
    {"attach", "[OPTIONS] PID...", "keep programs that run already under a RAM cap", parse_attach},
    {"detach", "[--force] PID...", "let go of programs that are kept under a cap", parse_detach},
    {"top", "", "show all jobs and what they do, live", parse_top},
    {"budget", "", "show who holds what of the RAM that all jobs share", parse_budget},
    {"set", "PID --ram SIZE", "give a job that runs another RAM cap", parse_set},
    {"resume", "PID", "put another process in a stopped pager's place", parse_resume},
    {"report", "[-o PAGE] STATS", "make a page that shows how a job went", parse_report},
    {"core", "[-o FILE] PID", "write a core file, what is outside included", parse_core},
    {"debug", "[--] DEBUGGER [ARGUMENT]...", "run a debugger that sees what is outside", parse_debug},
    {"check", "[--clean] [URL]...", "tell whether this machine and these stores will do", parse_check},
    {"bench", "URL...", "measure what a store can do", parse_bench},
};

std::string overview() {
    std::string text = fmt::format("{}\n\n", kDescription);
    std::string_view before = "Usage:";
    const auto line = [&](std::string_view words, std::string_view summary) {
        text += fmt::format("{:<6} farswap {:<44}{}\n", std::exchange(before, ""), words, summary);
    };
    for (const CommandEntry& command : kCommands)
        line(fmt::format("{} {}", command.name, command.usage), command.summary);
    line("COMMAND --help", "all options");
    text += "       farswap --version\n";
    return text;
}

/// All of it for programs: an object with `version`, `help` and `commands`, each of these with its `summary`.
Result<Command> all_for_programs() {
    std::string commands;
    for (const CommandEntry& command : kCommands) {
        const char* const word = kHelpForPrograms.data();
        const auto described = command.parse(std::span(&word, 1));
        if (!described) return std::unexpected(described.error());
        commands += fmt::format("{}{{\"summary\": \"{}\", \"syntax\": {}}}", commands.empty() ? "" : ",\n",
                                command.summary, std::get<PrintText>(*described).text);
    }
    return PrintText{fmt::format("{{\"version\": \"{}\", \"help\": \"{}\", \"commands\": [\n{}]}}\n",
                                 FARSWAP_VERSION, kDescription, commands)};
}

std::string command_names() {
    std::string names;
    for (const CommandEntry& command : kCommands)
        names += fmt::format("{}{}", names.empty() ? "" : ", ", command.name);
    return names;
}

}  // namespace

Result<Command> parse_command_line(std::span<const char* const> words) {
    if (words.empty()) return fail(EINVAL, "no command given; write: farswap run PROGRAM, or farswap --help");
    const std::string_view word = words[0];
    for (const CommandEntry& command : kCommands)
        if (word == command.name) return command.parse(words.subspan(1));
    if (word == "--help" || word == "-h" || word == "help") return PrintText{overview()};
    if (word == "--version") return PrintText{"farswap " FARSWAP_VERSION "\n"};
    if (word == kHelpForPrograms) return all_for_programs();
    return fail(EINVAL, "{}: no such command (there are {}); see farswap --help", word, command_names());
}

}  // namespace farswap::cli
